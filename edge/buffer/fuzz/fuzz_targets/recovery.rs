//! Recovery over whatever stands in the files.

#![no_main]

#[path = "../../tests/log/attack.rs"]
mod attack;
#[expect(dead_code, reason = "the tests of the crate use the rest")]
#[path = "../../tests/log/sim.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|data: &[u8]| attack::attack(data));
