import Preferences
import Testing

@Test func aMissingFileIsAnError() {
  #expect(throws: PreferenceFileError.self) { try PreferenceReader(files: ["/nonexistent.jsonl"]).examples() }
}
