//! Recovery over whatever stands in the files.

#![no_main]

#[path = "../../tests/attack/mod.rs"]
mod attack;
#[path = "../../tests/sim/mod.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|data: &[u8]| attack::attack(data));
