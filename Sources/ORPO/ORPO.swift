// ORPO
