import Foundation
import Kernels
import Synchronization
import Testing

@Suite struct ThreadPoolTests {
  private static let counts = [0, 1, 2, 3, 15, 16, 17, 100, 1000]

  @Test(arguments: [1, 2, 3, 8])
  func runCallsEveryThreadOnce(threads: Int) {
    withPool(threads) { pool in
      #expect(pool.threadCount == threads)
      var calls = [Int](repeating: 0, count: threads)
      calls.withUnsafeMutableBufferPointer { calls in
        nonisolated(unsafe) let calls = calls
        pool.run { calls[$0] += 1 }
      }
      #expect(calls == [Int](repeating: 1, count: threads))
    }
  }

  /// A worker's mask, as Linux shows it, is its one core; the calling thread's stays what it was.
  @Test func threadsStayOnTheirCores() throws {
    func allowed() throws -> String {
      let status = try String(contentsOfFile: "/proc/thread-self/status", encoding: .utf8)
      let line = status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }
      return try #require(line?.split(separator: "\t").last.map(String.init))
    }
    let own = try allowed()
    let cores = own.split(separator: ",").flatMap { part in
      let ends = part.split(separator: "-").compactMap { Int($0) }
      return ends.count == 2 ? Array(ends[0]...ends[1]) : ends
    }
    func masks(_ cores: [Int], threads: Int) throws -> [String] {
      let pool = ThreadPool(threads: threads, cores: cores)
      defer { pool.stop() }
      let found = Mutex([String](repeating: "", count: threads))
      pool.run { thread in
        let mask = (try? allowed()) ?? ""
        found.withLock { $0[thread] = mask }
      }
      return found.withLock { $0 }
    }
    try #require(cores.count >= 2)
    #expect(try masks(Array(cores.suffix(2)), threads: 2) == [own, "\(cores[cores.count - 1])"])
    // Too few cores for the threads: none is bound.
    #expect(try masks([cores[0]], threads: 2) == [own, own])
    #expect(try allowed() == own)
  }

  @Test(arguments: counts, [1, 2, 3, 8])
  func rangesAndTasksCoverEveryIndexOnce(count: Int, threads: Int) {
    withPool(threads) { pool in
      for grain in [1, 7, 16, 64] {
        let found = hits(count) { hit in pool.ranges(count, grain: grain) { $0.forEach(hit) } }
        #expect(found == ones(count))
      }
      let found = hits(count) { hit in
        pool.tasks(count) { task, thread in hit((0..<threads).contains(thread) ? task : -1) }
      }
      #expect(found == ones(count))
    }
  }

  @Test(arguments: counts, [1, 2, 3, 8])
  func rangesAreContiguousBalancedMultiplesOfTheGrain(count: Int, threads: Int) {
    withPool(threads) { pool in
      for grain in [1, 7, 16, 64] {
        let ranges = partition(pool, count, grain)
        #expect(ranges.map(\.count).reduce(0, +) == count)
        #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
        #expect(ranges.dropLast().allSatisfy { $0.count % grain == 0 })
        #expect(ranges.count <= threads && ranges.allSatisfy { !$0.isEmpty })
        // What is left over is the last one's, so that none is smaller than a grain.
        #expect(ranges.allSatisfy { $0.count >= min(grain, count) })
        let grains = ranges.map { max($0.count / grain, 1) }
        #expect((grains.max() ?? 0) - (grains.min() ?? 0) <= 1)
        for _ in 0..<5 { #expect(partition(pool, count, grain) == ranges) }
      }
    }
  }

  @Test func aPoolIsUsedTenThousandTimes() {
    withPool(3) { pool in
      let total = Atomic<Int>(0)
      for round in 0..<10_000 {
        if round % 2 == 0 {
          pool.ranges(round % 7) { total.wrappingAdd($0.count, ordering: .relaxed) }
        } else {
          pool.tasks(round % 7) { _, _ in total.wrappingAdd(1, ordering: .relaxed) }
        }
      }
      #expect(total.load(ordering: .relaxed) == (0..<10_000).reduce(0) { $0 + $1 % 7 })
    }
  }

  /// Threads that fell asleep wake up again, with what was written before the call.
  @Test func sleepingThreadsWakeUp() {
    withPool(3) { pool in
      var values = [Int](repeating: 0, count: 64)
      for round in 1...5 {
        var spin = 0
        while spin < 2_000_000 { spin &+= values[spin % 64] + 1 }
        values.withUnsafeMutableBufferPointer { values in
          nonisolated(unsafe) let values = values
          pool.ranges(64) { for index in $0 { values[index] += round } }
        }
      }
      #expect(values == [Int](repeating: 15, count: 64))
    }
  }

  /// Inside a body the pool is taken: the inner call runs on the thread that makes it.
  @Test(arguments: threadCounts)
  func nestedCallsCoverEveryIndexOnce(threads: Int) {
    withPool(threads) { pool in
      let ranges = hits(20 * 30) { hit in
        pool.ranges(20) { outer in
          for row in outer { pool.ranges(30) { for column in $0 { hit(row * 30 + column) } } }
        }
      }
      #expect(ranges == ones(600))
      let tasks = hits(20 * 30) { hit in
        pool.tasks(20) { row, _ in
          pool.tasks(30) { column, thread in hit(thread < threads ? row * 30 + column : -1) }
        }
      }
      #expect(tasks == ones(600))
      // And the pool works as before afterwards.
      let after = hits(50) { hit in pool.ranges(50) { $0.forEach(hit) } }
      #expect(after == ones(50))
    }
  }

  @Test func poolsAreIndependent() {
    withPool(2) { first in
      withPool(3) { second in
        let found = hits(40) { hit in
          first.ranges(4) { outer in
            for row in outer where row % 2 == 0 { for index in 0..<10 { hit(row * 10 + index) } }
          }
          second.ranges(20) { for index in $0 { hit(index < 10 ? 10 + index : 20 + index) } }
        }
        #expect(found == ones(40))
      }
    }
  }

  @Test func stoppingTwiceIsHarmless() {
    for threads in [1, 2, 4] {
      let pool = ThreadPool(threads: threads)
      pool.ranges(10) { _ in }
      pool.stop()
      pool.stop()
    }
  }

  @Test func manyPoolsComeAndGo() {
    for round in 0..<100 {
      let found = withPool(1 + round % 4) { pool in hits(5) { hit in pool.ranges(5) { $0.forEach(hit) } } }
      #expect(found == ones(5))
    }
  }

  private func ones(_ count: Int) -> [Int] { [Int](repeating: 1, count: count) }

  /// How often `body` hit each index, from whichever thread.
  private func hits(_ count: Int, _ body: ((Int) -> Void) -> Void) -> [Int] {
    let counters = UnsafeMutablePointer<Int>.allocate(capacity: max(count, 1))
    counters.initialize(repeating: 0, count: max(count, 1))
    defer { counters.deallocate() }
    let outside = Atomic<Int>(0)
    body { index in
      if index >= 0, index < count {
        counters[index] += 1
      } else {
        outside.wrappingAdd(1, ordering: .relaxed)
      }
    }
    #expect(outside.load(ordering: .relaxed) == 0)
    return (0..<count).map { counters[$0] }
  }

  private func partition(_ pool: ThreadPool, _ count: Int, _ grain: Int) -> [Range<Int>] {
    // Each range at its first index: no two threads write to one place.
    let ends = UnsafeMutablePointer<Int>.allocate(capacity: count + 1)
    ends.initialize(repeating: 0, count: count + 1)
    defer { ends.deallocate() }
    pool.ranges(count, grain: grain) { ends[$0.lowerBound] = $0.upperBound }
    return (0..<count).filter { ends[$0] > 0 }.map { $0..<ends[$0] }
  }
}
