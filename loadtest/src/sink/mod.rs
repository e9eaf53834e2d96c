//! A fast SMTP sink, as a process of its own: it takes everything, answers at once, and keeps nothing but counts and,
//! if asked, a record of what it accepted.
//!
//! Owns the listener and the counters. One thread; what is shared is borrowed for the time of one read and never over an
//! await. Invariants: 1. the record is written before the answers (see [`record`]); 2. answers to what one read brought
//! leave in one write; 3. the process ends on SIGTERM, SIGINT or the end of its standard input, with its counts as the
//! last line. It must not know the engine.
//!
//! Protocol with the parent, one JSON object a line on standard output: [`Listening`] at first, a [`SinkReport`] for each
//! line `report` on standard input, and a last one at the end. The line `reset` sets the counters back.

pub mod faults;
pub mod process;
pub mod record;
pub mod session;
pub mod stats;

use std::cell::RefCell;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use self::faults::{Dice, Faults};
use self::record::Recorder;
use self::session::{GREETING, Hub, Session, Step};
use self::stats::{Listening, SinkReport};
use crate::proc;

/// Bytes of one read: some messages of ten kilobytes, and small enough to stay in the second-level cache.
const READ_BYTES: usize = 128 * 1024;
/// Lines of the parent that may wait.
const CONTROL_LINES: usize = 16;

/// Options of the sink.
#[derive(Args, Clone, Debug)]
pub struct SinkOptions {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Append every accepted message (recipient, message id, subject) to this file before the 250 leaves
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Offer CHUNKING (BDAT)
    #[arg(long)]
    pub chunking: bool,
    /// Wait before each group of answers, milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub latency_ms: u64,
    /// Print the counts once a second on standard error
    #[arg(long)]
    pub count: bool,
    /// Do not end with the end of standard input (for a sink started in the background)
    #[arg(long)]
    pub detached: bool,
    #[command(flatten)]
    pub faults: Faults,
}

impl Default for SinkOptions {
    fn default() -> SinkOptions {
        SinkOptions {
            listen: "127.0.0.1:0".to_owned(),
            record: None,
            chunking: false,
            latency_ms: 0,
            count: false,
            detached: false,
            faults: Faults::default(),
        }
    }
}

struct Shared {
    hub: Hub,
    buffer: Vec<u8>,
    first_accept: Option<Instant>,
    last_accept: Option<Instant>,
    cpu_at_reset: f64,
}

impl Shared {
    fn report(&self) -> SinkReport {
        let window = match (self.first_accept, self.last_accept) {
            (Some(first), Some(last)) => last.duration_since(first).as_secs_f64(),
            _ => 0.0,
        };
        let per_second = if window > 0.0 { self.hub.counts.accepted as f64 / window } else { 0.0 };
        let cpu_seconds = (proc::own_cpu_seconds() - self.cpu_at_reset).max(0.0);
        SinkReport { counts: self.hub.counts.clone(), window_seconds: window, per_second, cpu_seconds }
    }

    fn reset(&mut self) {
        self.hub.counts = stats::Counts::default();
        self.first_accept = None;
        self.last_accept = None;
        self.cpu_at_reset = proc::own_cpu_seconds();
    }
}

/// Runs the sink until it is told to end; prints as the module says.
pub fn run(options: &SinkOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(options))
}

async fn serve(options: &SinkOptions) -> anyhow::Result<()> {
    let recorder = options.record.as_deref().map(Recorder::open).transpose().context("opening the record")?;
    let listener =
        TcpListener::bind(&options.listen).await.with_context(|| format!("listening on {}", options.listen))?;
    let address = listener.local_addr().context("asking for the address")?;
    print_line(&Listening { listen: address.to_string(), port: address.port() })?;

    let hub = Hub::new(Dice::new(options.faults.clone()), recorder, options.chunking);
    let shared = Rc::new(RefCell::new(Shared {
        hub,
        buffer: vec![0; READ_BYTES],
        first_accept: None,
        last_accept: None,
        cpu_at_reset: proc::own_cpu_seconds(),
    }));
    let mut control = control_lines(options.detached);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let latency = Duration::from_millis(options.latency_ms);
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let Ok((stream, _)) = connection else { continue };
                shared.borrow_mut().hub.counts.connections += 1;
                tokio::task::spawn_local(converse(stream, Rc::clone(&shared), latency));
            }
            line = control.recv() => match line.as_deref() {
                Some("report") => print_line(&shared.borrow().report())?,
                Some("reset") => shared.borrow_mut().reset(),
                Some(_) => {}
                None => break,
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = tick.tick(), if options.count => {
                let shared = shared.borrow();
                note(&format!("accepted {}, connections {}", shared.hub.counts.accepted, shared.hub.counts.connections));
            }
        }
    }
    let report = shared.borrow().report();
    print_line(&report)
}

/// One connection, to its end. Errors of the connection end it and nothing else.
async fn converse(mut stream: TcpStream, shared: Rc<RefCell<Shared>>, latency: Duration) {
    let mut session = Session::default();
    let mut replies = Vec::with_capacity(1_024);
    replies.extend_from_slice(GREETING);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    loop {
        if !replies.is_empty() {
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            if stream.write_all(&replies).await.is_err() {
                return;
            }
            replies.clear();
        }
        let step =
            std::future::poll_fn(|context| read_and_feed(&mut stream, context, &mut session, &shared, &mut replies))
                .await;
        match step {
            Ok(Step::Continue) => {}
            Ok(Step::Close) => {
                // The peer may be gone already; there is nobody left to tell.
                stream.write_all(&replies).await.ok();
                stream.shutdown().await.ok();
                return;
            }
            Ok(Step::Reset) => {
                stream.write_all(&replies).await.ok();
                stream.set_zero_linger().ok();
                return;
            }
            Err(_) => return,
        }
    }
}

fn read_and_feed(
    stream: &mut TcpStream,
    context: &mut std::task::Context<'_>,
    session: &mut Session,
    shared: &Rc<RefCell<Shared>>,
    replies: &mut Vec<u8>,
) -> std::task::Poll<std::io::Result<Step>> {
    let shared = &mut *shared.borrow_mut();
    let mut into = ReadBuf::new(&mut shared.buffer);
    std::task::ready!(Pin::new(stream).poll_read(context, &mut into))?;
    let read = into.filled();
    if read.is_empty() {
        return std::task::Poll::Ready(Err(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let before = shared.hub.counts.accepted;
    let step = session.feed(read, &mut shared.hub, replies);
    if shared.hub.counts.accepted > before {
        let now = Instant::now();
        shared.first_accept.get_or_insert(now);
        shared.last_accept = Some(now);
        if let Some(recorder) = &mut shared.hub.recorder {
            recorder.flush()?;
        }
    }
    std::task::Poll::Ready(Ok(step))
}

/// The parent's lines; the channel closes with standard input, unless detached.
fn control_lines(detached: bool) -> tokio::sync::mpsc::Receiver<String> {
    let (send, receive) = tokio::sync::mpsc::channel(CONTROL_LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if send.blocking_send(line.trim().to_owned()).is_err() {
                return;
            }
        }
        while detached && !send.is_closed() {
            std::thread::park();
        }
    });
    receive
}

fn print_line(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()?;
    Ok(())
}

fn note(text: &str) {
    // Counts on standard error are a courtesy; a closed one is no reason to stop.
    writeln!(std::io::stderr(), "{text}").ok();
}
