//! The recording sink as a process of its own: this very test program, run a second time.
//!
//! Each program that includes this file has a test that calls [`be_the_sink_if_asked`] first and is named in the call of
//! [`start`].

use std::process::Command;

use loadtest::sink::process::SinkProcess;
use loadtest::sink::{self, SinkOptions};

/// Holds the sink's options as lines when this program is to be the sink.
const SINK: &str = "ESTAFETTE_TEST_SINK";

/// Starts this program again, as the sink that the test `name` turns into.
pub fn start(name: &str, options: &SinkOptions) -> SinkProcess {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(SINK, sink::process::to_args(options).join("\n"));
    SinkProcess::from_command(command).expect("the sink starts")
}

/// Is the sink until it is told to end, if another process of this program asked for it.
pub fn be_the_sink_if_asked() -> bool {
    let Ok(arguments) = std::env::var(SINK) else {
        return false;
    };
    let options = sink::process::from_args(arguments.lines()).expect("options of the sink");
    sink::run(&options).expect("the sink runs");
    true
}
