import Collectives
import Foundation

/// Standard error for notes and errors; a closed one is no reason to stop.
package enum StandardError {
  package static func write(_ text: String) { FileHandle.standardError.tryWrite(PlainText.message(text)) }
}
