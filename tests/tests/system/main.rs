//! The system tests: real binaries against real Kafka, NATS and devices, one file per property. One program, so that it is linked once, and so that
//! the tests of all files keep the machine busy: most of their time is waiting for what they broke to come back.
//! Of one file: `cargo test --workspace --locked --test system kafka_outage::` (under `with-kafka`, as `./dev test` does).

mod appliance;
mod bad_config;
mod clocks;
mod commands;
mod commands_cloud;
mod components;
mod demo;
mod device_faults;
mod disk_errors;
mod disk_full;
mod disk_read_only;
mod edge_frozen;
mod edge_killed;
mod existing_consumers;
mod finding_devices;
mod forwarder_killed;
mod kafka_cluster;
mod kafka_forgets;
mod kafka_link;
mod kafka_outage;
mod kafka_refusals;
mod kafka_topic;
mod late_request;
mod local_socket;
mod log_full;
mod log_tools;
mod main_path;
mod mirror_killed;
mod monitoring;
mod nats_disk_full;
mod nats_outage;
mod network;
mod rate;
mod rebalances;
mod reconcile;
mod reload;
mod secured;
mod selftest;
mod signatures;
mod twins;
mod verify;
