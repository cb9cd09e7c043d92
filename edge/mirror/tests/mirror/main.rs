//! The mirror as a whole: against librdkafka's own mock cluster, and against a real Apache Kafka, whose address stands in `OPENFACTORY_KAFKA`
//! (`./dev test` sets it). Without it, the tests that need it fail, unless `OPENFACTORY_SKIP_SERVERS=1` is set: then they say so and pass.

mod changed;
mod doubt;
mod edges;
mod mock;
mod proxy;
mod refused;
mod replay;
mod retention;
mod support;
mod topics;
