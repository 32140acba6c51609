//! A small Kafka client for tests, benchmarks and commands.
