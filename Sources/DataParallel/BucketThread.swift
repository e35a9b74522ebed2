import Collectives
import Glibc

/// A thread that takes buckets over in order while the thread that hands them over goes on computing.
final class BucketThread: @unchecked Sendable {
  private let body: (Int) throws(MPIError) -> Void
  private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var thread = pthread_t()
  // Under `lock`:
  private var wanted = 0
  private var done = 0
  private var failure: MPIError?
  private var isStopping = false

  /// - Parameter body: called on the thread with 0, 1, 2 and so on until it throws.
  init(_ body: @escaping (Int) throws(MPIError) -> Void) {
    self.body = body
    pthread_mutex_init(lock, nil)
    pthread_cond_init(changed, nil)
    let code = pthread_create(
      &thread, nil,
      { argument in
        Unmanaged<BucketThread>.fromOpaque(argument!).takeRetainedValue().work()
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
    precondition(code == 0, "the communication thread could not be started (error \(code))")
  }

  deinit {
    lock.deallocate()
    changed.deallocate()
  }

  /// Lets the thread do all buckets below `count`; returns at once.
  func start(below count: Int) {
    locked { wanted = max(wanted, count) }
  }

  /// Waits until all buckets below `count` are done, then counts from 0 again.
  /// - Throws: what `body` threw; then no bucket is done any more.
  func finish(_ count: Int) throws(MPIError) {
    var error: MPIError?
    locked {
      wanted = max(wanted, count)
      pthread_cond_broadcast(changed)
      while failure == nil, done < count { pthread_cond_wait(changed, lock) }
      error = failure
      if failure == nil { (wanted, done) = (0, 0) }
    }
    if let error { throw error }
  }

  /// Ends the thread. One that is in the middle of a bucket, which other ranks may never join, is left to itself: the
  /// process is about to end.
  func stop() {
    var isIdle = false
    locked {
      isStopping = true
      isIdle = failure != nil || done >= wanted
    }
    if isIdle { pthread_join(thread, nil) } else { pthread_detach(thread) }
  }

  private func work() {
    var next = 0
    while true {
      var isOver = false
      locked {
        while !isStopping, failure == nil, done >= wanted { pthread_cond_wait(changed, lock) }
        isOver = isStopping || failure != nil
        next = done
      }
      if isOver { return }
      var thrown: MPIError?
      do { try body(next) } catch { thrown = error }
      locked {
        done += 1
        failure = thrown
      }
    }
  }

  /// Whatever `body` changes, the other thread looks at it.
  private func locked(_ body: () -> Void) {
    pthread_mutex_lock(lock)
    body()
    pthread_cond_broadcast(changed)
    pthread_mutex_unlock(lock)
  }
}
