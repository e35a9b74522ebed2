#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Owned memory for `count` values of a trivial type, aligned to a page, freed when the value goes out of scope.
///
/// The contents start at zero without being touched: the kernel hands out pages at first use. Large buffers ask for
/// huge pages. A buffer held by a top-level `let` is never freed; hold it in a function or a class.
package struct AlignedBuffer<Element: BitwiseCopyable>: ~Copyable, @unchecked Sendable {
  package let pointer: UnsafeMutablePointer<Element>
  package let count: Int
  private let mappedBytes: Int

  private static var hugePage: Int { 2 << 20 }
  /// `MADV_HUGEPAGE` of <sys/mman.h>, which the module map does not carry.
  private static var adviseHugePages: Int32 { 14 }

  /// - Precondition: `count >= 0` and the size in bytes fits in `Int`. Running out of address space ends the process
  ///   with a message.
  package init(count: Int) {
    precondition(count >= 0, "a buffer cannot have \(count) elements")
    let bytes = max(count * MemoryLayout<Element>.stride, 1)
    mappedBytes = bytes
    let mapped = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let mapped, mapped != MAP_FAILED else {
      preconditionFailure("out of memory: \(bytes) bytes could not be mapped (errno \(errno))")
    }
    if bytes >= Self.hugePage { _ = madvise(mapped, bytes, Self.adviseHugePages) }
    pointer = mapped.bindMemory(to: Element.self, capacity: max(count, 1))
    self.count = count
  }

  deinit { munmap(pointer, mappedBytes) }

  package var bytes: Int { count * MemoryLayout<Element>.stride }
  package var values: UnsafeMutableBufferPointer<Element> { .init(start: pointer, count: count) }

  @inlinable package subscript(index: Int) -> Element {
    get {
      precondition(index >= 0 && index < count)
      return pointer[index]
    }
    nonmutating set {
      precondition(index >= 0 && index < count)
      pointer[index] = newValue
    }
  }
}
