//! SCRAM-SHA-256 from both ends, md5, verifiers.
