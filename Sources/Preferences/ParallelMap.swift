internal import Dispatch
internal import Synchronization

/// Results of `transform` in the order of `elements`, computed on up to `threads` threads. Which thread takes which
/// element does not show in the result.
func parallelMap<Element: Sendable, Output: Sendable>(
  _ elements: [Element], threads: Int, _ transform: @Sendable (Element) -> Output
) -> [Output] {
  let count = elements.count
  let workers = min(max(threads, 1), count)
  if workers <= 1 { return elements.map(transform) }
  return [Output](unsafeUninitializedCapacity: count) { outputs, initialized in
    let slots = Slots(base: outputs.baseAddress!)
    let next = Atomic(0)
    DispatchQueue.concurrentPerform(iterations: workers) { _ in
      while true {
        let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
        if index >= count { return }
        slots.initialize(index, to: transform(elements[index]))
      }
    }
    initialized = count
  }
}

/// Each index is handed out once, so no two threads write the same place.
private struct Slots<Output>: @unchecked Sendable {
  let base: UnsafeMutablePointer<Output>
  func initialize(_ index: Int, to value: Output) { (base + index).initialize(to: value) }
}
