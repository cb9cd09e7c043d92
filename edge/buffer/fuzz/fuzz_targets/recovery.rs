//! Recovery over whatever stands in the files.

#![no_main]

#[path = "../../tests/log/attack.rs"]
mod attack;
#[path = "../../tests/log/sim.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|data: &[u8]| attack::attack(data));
