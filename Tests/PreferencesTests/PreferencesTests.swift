// PreferencesTests
