// DecoderTests
