import Foundation
import ModelFiles
import Testing

/// What lies where a file is expected.
@Suite struct HostileFileTests {
  @Test func pipesAndDevicesAreNotWaitedFor() throws {
    try withTemporaryFolder { folder in
      let pipe = folder + "/model.safetensors"
      #expect(mkfifo(pipe, 0o600) == 0)
      for path in [pipe, "/dev/zero"] {
        let error = #expect(throws: FileError.self) { try ReadableFile(path: path) }
        #expect(error?.description.contains("expected a regular file") == true)
      }
      #expect(throws: FileError.self) { try SafetensorsFolder(directory: folder) }
    }
  }

  @Test func aFileThatIsTooLongIsRefusedBeforeItIsRead() throws {
    try withTemporaryFolder { folder in
      // A hole of a terabyte takes no room on the disk.
      let path = folder + "/config.json"
      try write([], to: path)
      #expect(truncate(path, 1 << 40) == 0)
      let error = #expect(throws: FileError.self) { try ReadableFile.contents(path, limit: 1 << 20) }
      #expect(error?.description.contains("at most 1048576") == true)
      #expect(try ReadableFile.contents(ifPresent: folder + "/nothing", limit: 1) == nil)
    }
  }
}
