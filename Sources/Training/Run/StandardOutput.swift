import Collectives
import Foundation

/// Standard output for people. Reports quote files: what a terminal would obey is shown, over-long lines are cut.
package enum StandardOutput {
  package static func write(_ text: String) { FileHandle.standardOutput.tryWrite(PlainText.message(text)) }
}
