//! System tests: the real binaries against real Kafka, real NATS and devices that we did not write.
//!
//! This library starts and stops everything that a test or the demo needs, breaks it on purpose, and judges the outcome.
//!
//! Promises:
//! - Whatever is started here ends with its owner: on drop, when the test fails, and when the test's own process is killed.
//! - Nothing waits by sleeping: [`wait::until`] waits for a condition and tells the last state when it gives up.
//! - The [`judge`] knows nothing of the product but the wire: it reads what devices said, Kafka and NATS.
//!
//! Non-goals: being used by anything that is shipped.

pub mod appliance;
pub mod certificates;
pub mod clock;
pub mod cloud;
pub mod commanded;
pub mod control_group;
pub mod devices;
pub mod edge;
pub mod faults;
pub mod figures;
pub mod furnace;
pub mod http;
pub mod judge;
pub mod kafka;
pub mod link;
pub mod mounts;
pub mod nats;
pub mod plant;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod tools;
pub mod wait;
