#![no_main]

#[path = "../entries.rs"]
#[allow(dead_code, reason = "every target uses one entry of the shared file")]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::inbound(bytes));
