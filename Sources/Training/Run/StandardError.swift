import Foundation

/// Standard error for notes; a closed one is no reason to stop.
package enum StandardError {
  package static func write(_ text: String) { FileHandle.standardError.tryWrite(text) }
}
