import Glibc
import Synchronization
package import Timeline

/// The threads of one rank. `run` calls a body once on each of them and returns when all are done.
///
/// Threads spin briefly between calls and then sleep, so that ranks which share a core do not starve each other. Work
/// is divided by index, never by who comes first where results are summed, so the same thread count gives the same
/// bits.
package final class ThreadPool: @unchecked Sendable {
  package let threadCount: Int
  /// Where the rank's kernels record their time; nil records nothing. Set between steps only.
  package var timeline: Timeline?

  private typealias Body = (Int) -> Void
  private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let generation = Atomic<Int>(0)
  private let pending = Atomic<Int>(0)
  private let isStopping = Atomic<Bool>(false)
  private let isBusy = Atomic<Bool>(false)
  /// Written before `generation` is raised, read after it was seen raised.
  private var body: Body?
  private var threads: [pthread_t] = []
  private let cores: [Int]

  /// Rounds of waiting before a thread sleeps: a few tens of microseconds, about the gap between two kernels.
  private static let spins = 4000

  /// - Parameters:
  ///   - threads: how many, the calling one included.
  ///   - cores: logical cores that are this pool's alone. With one for each thread, threads stay on theirs; the calling
  ///     thread is left as it is, and with it the threads it starts later.
  package init(threads threadCount: Int, cores: [Int] = []) {
    precondition(threadCount >= 1, "a thread pool needs at least one thread")
    self.cores = cores.count >= threadCount ? cores : []
    self.threadCount = threadCount
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, nil)
    for index in 1..<max(threadCount, 1) {
      let start = Unmanaged.passRetained(Start(pool: self, index: index))
      var thread = pthread_t()
      let code = pthread_create(
        &thread, nil,
        { argument in
          let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
          start.pool.work(index: start.index)
          return nil
        }, start.toOpaque())
      precondition(code == 0, "thread \(index) of \(threadCount) could not be started (error \(code))")
      threads.append(thread)
    }
  }

  /// Ends the threads. The pool must not be used afterwards.
  package func stop() {
    guard !threads.isEmpty else { return }
    isStopping.store(true, ordering: .releasing)
    raise()
    for thread in threads { pthread_join(thread, nil) }
    threads = []
  }

  deinit {
    lock.deallocate()
    wake.deallocate()
  }

  /// Calls `body(0 ..< threadCount)`, each index on a thread of its own. Inside a body, a further call does all indices
  /// on the thread that makes it: the others are taken.
  package func run(_ body: (Int) -> Void) {
    if threadCount == 1 || isBusy.exchange(true, ordering: .acquiring) {
      for index in 0..<threadCount { body(index) }
      return
    }
    defer { isBusy.store(false, ordering: .releasing) }
    withoutActuallyEscaping(body) { body in
      self.body = body
      pending.store(threadCount - 1, ordering: .relaxed)
      raise()
      body(0)
      var rounds = 0
      while pending.load(ordering: .acquiring) > 0 {
        rounds += 1
        if rounds > Self.spins { sched_yield() }
      }
      self.body = nil
    }
  }

  /// Splits `0 ..< count` into one contiguous range a thread and calls `body` for each that is not empty: multiples of
  /// `grain`, and the last with what is left over. No range is smaller than `grain` unless `count` is.
  package func ranges(_ count: Int, grain: Int = 1, _ body: (Range<Int>) -> Void) {
    guard count > 0 else { return }
    let grains = max(count / grain, 1)
    if threadCount == 1 || grains == 1 { return body(0..<count) }
    run { index in
      let lower = grains * index / threadCount * grain
      let last = grains * (index + 1) / threadCount
      let upper = last == grains ? count : last * grain
      if grains * index / threadCount < last { body(lower..<upper) }
    }
  }

  /// Copies `values`, all threads together.
  package func copy(_ values: UnsafeBufferPointer<Float>, to target: UnsafeMutablePointer<Float>) {
    guard let start = values.baseAddress else { return }
    ranges(values.count, grain: 1 << 16) {
      (target + $0.lowerBound).update(from: start + $0.lowerBound, count: $0.count)
    }
  }

  /// Hands out `0 ..< count` one by one to whichever thread is free; for tasks of uneven size that write to places of
  /// their own. The body also gets the index of its thread, for scratch memory.
  package func tasks(_ count: Int, _ body: (_ task: Int, _ thread: Int) -> Void) {
    let next = Atomic<Int>(0)
    run { thread in
      while true {
        let task = next.wrappingAdd(1, ordering: .relaxed).oldValue
        if task >= count { return }
        body(task, thread)
      }
    }
  }

  private func raise() {
    pthread_mutex_lock(lock)
    generation.wrappingAdd(1, ordering: .acquiringAndReleasing)
    pthread_cond_broadcast(wake)
    pthread_mutex_unlock(lock)
  }

  private func work(index: Int) {
    if !cores.isEmpty { Affinity.stay(on: [cores[index]]) }
    var seen = 0
    while true {
      waitForGeneration(after: seen)
      seen += 1
      if isStopping.load(ordering: .acquiring) { return }
      body?(index)
      pending.wrappingSubtract(1, ordering: .acquiringAndReleasing)
    }
  }

  private func waitForGeneration(after seen: Int) {
    for _ in 0..<Self.spins where generation.load(ordering: .acquiring) != seen { return }
    pthread_mutex_lock(lock)
    while generation.load(ordering: .acquiring) == seen { pthread_cond_wait(wake, lock) }
    pthread_mutex_unlock(lock)
  }

  private final class Start {
    let pool: ThreadPool
    let index: Int
    init(pool: ThreadPool, index: Int) {
      self.pool = pool
      self.index = index
    }
  }
}

/// Which cores a thread runs on.
package enum Affinity {
  /// Glibc's declaration is for `_GNU_SOURCE` only, which Swift does not set.
  private static let set: (@convention(c) (pid_t, Int, UnsafeRawPointer) -> Int32)? = dlsym(nil, "sched_setaffinity")
    .map { unsafeBitCast($0, to: (@convention(c) (pid_t, Int, UnsafeRawPointer) -> Int32).self) }

  /// Keeps the calling thread, and those it starts later, on these cores. Where none of them can be had that is no error:
  /// the thread runs elsewhere.
  package static func stay(on cores: [Int]) {
    var mask = [UInt64](repeating: 0, count: (cores.max() ?? 0) / 64 + 1)
    for core in cores { mask[core / 64] |= 1 << (core % 64) }
    _ = mask.withUnsafeBytes { bytes in bytes.baseAddress.map { set?(0, bytes.count, $0) } }
  }
}
