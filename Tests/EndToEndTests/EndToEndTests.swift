import Testing

/// The real command under `mpirun`, compared with TRL and with itself. One run at a time: each starts several
/// processes.
@Suite(.serialized, .timeLimit(.minutes(10))) struct EndToEndTests {}
