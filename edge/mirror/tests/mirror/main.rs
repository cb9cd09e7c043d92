//! The mirror as a whole: against librdkafka's own mock cluster, and against a real Apache Kafka, whose address stands in `OPENFACTORY_KAFKA`
//! (`./dev test` sets it). Without it, the tests that need it say so and pass.

mod changed;
mod doubt;
mod edges;
mod mock;
mod proxy;
mod refused;
mod support;
mod topics;
