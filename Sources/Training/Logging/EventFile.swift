import Checkpoints
import Foundation
internal import SwiftProtobuf

/// A TensorBoard event file: protobuf records, each framed by its length and checksums (the TFRecord format).
final class EventFile {
  private let file: AppendedFile

  /// Creates a file under the name TensorBoard looks for.
  init(directory: String, time: Date = Date()) throws {
    let host = ProcessInfo.processInfo.hostName
    let name = "events.out.tfevents.\(Int(time.timeIntervalSince1970)).\(host).\(getpid()).0"
    try Folders.create(directory)
    file = try AppendedFile(path: directory + "/" + name, isNew: true)
    try append(step: 0, time: time) { $0.fileVersion = "brain.Event:2" }
  }

  func append(step: Int, time: Date = Date(), _ fill: (inout TensorBoardEvent) -> Void) throws {
    var event = TensorBoardEvent()
    event.wallTime = time.timeIntervalSince1970
    event.step = Int64(step)
    fill(&event)
    try file.append(Self.framed(event.serializedBytes()))
  }

  func synchronize() throws { try file.synchronize() }

  /// Length (8 bytes), its checksum (4), the record, its checksum (4); little endian.
  private static func framed(_ record: [UInt8]) -> [UInt8] {
    let length = bytes(UInt64(record.count))
    return length + bytes(CRC32C.masked(length)) + record + bytes(CRC32C.masked(record))
  }

  private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
}

/// The Castagnoli checksum (polynomial 0x1EDC6F41, reflected), as TFRecord files use it.
package enum CRC32C {
  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 0 ? value >> 1 : (value >> 1) ^ 0x82F6_3B78 }
  }

  package static func checksum(_ bytes: some Sequence<UInt8>) -> UInt32 {
    ~bytes.reduce(~UInt32(0)) { table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] ^ ($0 >> 8) }
  }

  /// Rotated and offset, so that a checksum of data that holds checksums stays sound.
  package static func masked(_ bytes: some Sequence<UInt8>) -> UInt32 {
    let value = checksum(bytes)
    return ((value >> 15) | (value << 17)) &+ 0xa282_ead8
  }
}
