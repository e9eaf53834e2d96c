//! A sink in a process of its own, seen from its parent.
//!
//! Owns the child. Invariants: 1. the child dies with its parent's pipe (its standard input ends), however the parent
//! ends; 2. each question gets one answer, in order.

use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use super::SinkOptions;
use super::stats::{Listening, SinkReport};

/// A running sink whose reports are of the type `R`.
#[derive(Debug)]
pub struct Process<R> {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub address: SocketAddr,
    /// Certificate to trust, if it speaks TLS.
    pub certificate: Option<PathBuf>,
    reports: PhantomData<R>,
}

/// The SMTP sink.
pub type SinkProcess = Process<SinkReport>;

/// The arguments that [`super::SinkOptions`] parses back to the same options.
pub fn to_args(options: &SinkOptions) -> Vec<String> {
    let file = |name: &str, path: &Option<PathBuf>| path.as_ref().map(|path| format!("--{name}={}", path.display()));
    let flag = |name: &str, set: bool| set.then(|| format!("--{name}"));
    let mut args = vec![format!("--listen={}", options.listen), format!("--latency={}", options.latency)];
    args.extend(file("record", &options.record));
    args.extend(file("mails", &options.mails));
    args.extend(file("tls-cert", &options.tls_cert));
    args.extend(file("tls-key", &options.tls_key));
    args.extend(flag("chunking", options.chunking));
    args.extend(flag("starttls", options.starttls));
    args.extend(flag("demand-tls", options.demand_tls));
    args.extend(flag("count", options.count));
    args.extend(flag("detached", options.detached));
    args.extend(options.faults.to_args());
    args
}

/// What [`to_args`] wrote.
pub fn from_args<'a>(args: impl Iterator<Item = &'a str>) -> Result<SinkOptions, clap::Error> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: SinkOptions,
    }
    <Line as clap::Parser>::try_parse_from(std::iter::once("sink").chain(args)).map(|line| line.options)
}

impl SinkProcess {
    /// Starts `loadtest sink` from this very binary.
    pub fn start(options: &SinkOptions) -> anyhow::Result<SinkProcess> {
        let mut command = Command::new(std::env::current_exe().context("finding this binary")?);
        command.arg("sink").args(to_args(options));
        SinkProcess::from_command(command)
    }
}

impl<R: DeserializeOwned> Process<R> {
    /// Starts a command that will behave as a sink: lines before the first JSON object are passed over.
    pub fn from_command(mut command: Command) -> anyhow::Result<Process<R>> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting the sink {command:?}"))?;
        let ask = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().context("the sink has no standard output")?);
        let listening: Listening = next_answer(&mut answers).context("the sink did not say where it listens")?;
        let address = listening.listen.parse().with_context(|| format!("address of the sink: {}", listening.listen))?;
        let certificate = listening.certificate;
        Ok(Process { child, ask, answers, address, certificate, reports: PhantomData })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Counts since the last reset.
    pub fn report(&mut self) -> anyhow::Result<R> {
        self.say("report")?;
        next_answer(&mut self.answers)
    }

    pub fn reset(&mut self) -> anyhow::Result<()> {
        self.say("reset")
    }

    /// Ends the sink and returns its last word.
    pub fn finish(mut self) -> anyhow::Result<R> {
        self.ask = None;
        let report = next_answer(&mut self.answers)?;
        let status = self.child.wait().context("waiting for the sink")?;
        if !status.success() {
            bail!("the sink ended with {status}");
        }
        Ok(report)
    }

    fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let ask = self.ask.as_mut().context("the sink was ended")?;
        writeln!(ask, "{line}").context("the sink is gone")?;
        ask.flush().context("the sink is gone")
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        self.ask = None;
        // The end of its standard input ends it; reaping it here leaves no zombie. A failed wait leaves nothing to do.
        self.child.wait().ok();
    }
}

fn next_answer<T: DeserializeOwned>(answers: &mut BufReader<ChildStdout>) -> anyhow::Result<T> {
    let mut line = String::new();
    loop {
        line.clear();
        if answers.read_line(&mut line).context("reading from the sink")? == 0 {
            bail!("the sink ended without an answer");
        }
        // A test program that is the sink has written the test's name on the same line.
        if let Some(at) = line.find('{') {
            return serde_json::from_str(&line[at..]).with_context(|| format!("answer of the sink: {line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_passes_the_other_reads() {
        let options = SinkOptions {
            record: Some("a b".into()),
            mails: Some("m".into()),
            chunking: true,
            starttls: true,
            demand_tls: true,
            tls_cert: Some("c".into()),
            tls_key: Some("k".into()),
            latency: "lognormal:3,40".parse().unwrap(),
            count: true,
            detached: true,
            ..SinkOptions::default()
        };
        let args = to_args(&options);
        assert_eq!(from_args(args.iter().map(String::as_str)).unwrap(), options, "by arguments");
        let text = toml::to_string(&options).unwrap();
        assert_eq!(toml::from_str::<SinkOptions>(&text).unwrap(), options, "and in a scenario: {text}");
    }
}
