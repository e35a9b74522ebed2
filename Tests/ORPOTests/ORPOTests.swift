// ORPOTests
