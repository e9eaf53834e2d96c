//! Where bytes from outside come in: one function a fuzz target, shared by cargo-fuzz's targets and by the bounded run on
//! stable (`tests/fuzz`). Each must return, whatever the input; an assertion inside says more than "no panic".
//!
//! What is guarded by a checksum is tried twice: as it is, and with the checksums repaired, so that what lies behind them
//! is reached.

use estafette::channels::smtp::classify::{Stage, classify, out_of_step};
use estafette::channels::smtp::reply::ReplyReader;
use estafette::channels::smtp::session::Capabilities;
use std::sync::LazyLock;

use estafette::clock::Timestamp;
use estafette::ids::{BatchId, CampaignId, Channel, DeliveryId, MessageId, RunId};
use estafette::ledger::batch::BootId;
use estafette::ledger::facts::{Claimed, DeliveryEntered, RunStarted, Settled};
use estafette::ledger::{Fact, Mode, Positions, RowSet, State, snapshot as state};
use estafette::{campaigns, channels, contacts, content, journal as log, segments};
use roaring::RoaringBitmap;

/// A CSV file that was uploaded.
pub fn csv(bytes: &[u8]) {
    contacts::csv_import::fuzz_csv(bytes);
}

/// A segment file of the journal.
pub fn journal(bytes: &[u8]) {
    log::fuzz_open(bytes);
    log::fuzz_open(&repaired_segment(bytes));
}

/// A snapshot file, and what it holds: the state.
pub fn snapshot(bytes: &[u8]) {
    log::fuzz_snapshot(bytes);
    let repaired = repaired_snapshot(bytes);
    assert!(repaired.len() < SNAPSHOT_HEADER || log::fuzz_snapshot(&repaired), "repaired, it is valid");
    if let Ok(found) = state::decode(repaired.get(SNAPSHOT_HEADER..).unwrap_or_default()) {
        // A verdict is all that is asked of it: what is out of balance is refused at the start.
        drop(found.check());
    }
}

/// The payload of a frame: a fact, applied to the state that [`history`] makes.
pub fn fact(bytes: &[u8]) {
    let Ok(fact) = Fact::decode(bytes) else { return };
    let encoded = fact.encode().expect("what was read can be written");
    assert_eq!(Fact::decode(&encoded).ok().as_ref(), Some(&fact), "a fact reads back equal");
    let mut state = PLAYED.clone();
    if state.apply(&fact, BootId::default()).is_ok() {
        state.check().expect("a fact that was taken leaves a ledger that balances");
    } else {
        assert_eq!(state, *PLAYED, "a fact that was refused changes nothing");
    }
}

static PLAYED: LazyLock<State> = LazyLock::new(|| {
    let mut state = State::default();
    for fact in history() {
        state.apply(&fact, BootId::default()).expect("the history is sound");
    }
    state
});

/// A run of a hundred contacts with one batch claimed and partly settled.
pub fn history() -> Vec<Fact> {
    let text = include_str!("../examples/spring.toml");
    let spec = campaigns::parse(text, campaigns::Format::Toml).expect("the example is a spec");
    let graph = campaigns::compile(&spec).expect("the example compiles").graph;
    let delivery = DeliveryId { run: RunId(1), index: 0 };
    let rows = |from: u32, to: u32| (from..to).collect::<RoaringBitmap>();
    let entered = DeliveryEntered {
        channel: Channel::Email,
        topic: "news".to_owned(),
        connector: "relay".to_owned(),
        mode: Mode::Strict,
        audience: RowSet::base(rows(0, 100)),
        skipped: Vec::new(),
        summary: None,
    };
    let started = RunStarted {
        run: RunId(1),
        campaign: CampaignId(1),
        version: 1,
        graph,
        deliveries: vec![entered],
        at: Timestamp(3_000),
        entrants: RowSet::default(),
    };
    let claimed = Claimed {
        batch: BatchId(1),
        delivery,
        connector: "relay".to_owned(),
        message: MessageId(0),
        rows: rows(0, 40),
        positions: Positions(vec![(0, 40)]),
        at: Timestamp(4_000),
        domain: None,
    };
    let mut settled = Settled::new(BatchId(1), delivery, Timestamp(5_000));
    settled.accepted = rows(0, 20);
    settled.unknown = rows(20, 22);
    settled.deferred = vec![(300, rows(22, 25))];
    vec![
        Fact::CampaignSaved { campaign: CampaignId(1), spec: campaigns::parse::to_stored(&spec), at: Timestamp(2_000) },
        Fact::RunStarted(Box::new(started)),
        Fact::Claimed(claimed),
        Fact::Settled(settled),
    ]
}

/// Templates of a message.
pub fn template(bytes: &[u8]) {
    content::fuzz_template(&String::from_utf8_lossy(bytes));
}

/// A token out of a link, and, on the next line, a URL.
pub fn token(bytes: &[u8]) {
    content::fuzz_token(&String::from_utf8_lossy(bytes));
}

/// What a relay answers: the first byte says how the rest is cut into reads.
pub fn smtp_reply(bytes: &[u8]) {
    let (cut, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let whole = replies(bytes, bytes.len().max(1));
    let pieces = replies(bytes, usize::from(*cut).max(1));
    assert_eq!(whole, pieces, "replies do not depend on how they were cut into reads");
}

fn replies(mut bytes: &[u8], cut: usize) -> (Vec<String>, bool) {
    let mut reader = ReplyReader::default();
    let mut found = Vec::new();
    loop {
        match reader.advance() {
            Ok(true) => {
                let reply = reader.reply();
                for stage in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Body] {
                    classify(stage, reply);
                    out_of_step(stage, reply);
                }
                Capabilities::parse(&reply.text);
                found.push(reply.sample(estafette::limits::REPLY_SAMPLE_BYTES));
            }
            Ok(false) if bytes.is_empty() => return (found, true),
            Ok(false) => {
                let space = reader.space();
                let count = space.len().min(bytes.len()).min(cut);
                assert!(count > 0, "there is space after an incomplete reply");
                space[..count].copy_from_slice(&bytes[..count]);
                reader.filled(count);
                bytes = &bytes[count..];
            }
            Err(_) => return (found, false),
        }
    }
}

/// A segment expression.
pub fn segment(bytes: &[u8]) {
    segments::fuzz_parse(&String::from_utf8_lossy(bytes));
}

/// A bounce or a complaint, as an MTA pipes it.
pub fn inbound(bytes: &[u8]) {
    channels::inbound::fuzz_inbound(bytes);
}

/// The spec of a campaign, as TOML and as JSON.
pub fn spec(bytes: &[u8]) {
    campaigns::parse::fuzz_spec(&String::from_utf8_lossy(bytes));
}

const SEGMENT_HEADER: usize = 64;
const FRAME_HEADER: usize = 25;
const SNAPSHOT_HEADER: usize = 64;

/// `bytes` with every length that depends on their number, every checksum and every sequence number as a writer would have
/// set it. The layout is that of `src/journal/mod.rs`.
pub fn repaired_segment(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.len() < SEGMENT_HEADER {
        return out;
    }
    let length = out.len() as u64;
    out[..8].copy_from_slice(b"ESTAFJNL");
    out[8..12].copy_from_slice(&log::FORMAT_VERSION.to_le_bytes());
    out[48..56].copy_from_slice(&length.to_le_bytes());
    out[12..16].fill(0);
    let checksum = crc32c::crc32c(&out[..SEGMENT_HEADER]);
    out[12..16].copy_from_slice(&checksum.to_le_bytes());
    let segment = crc32c::crc32c(&out[16..24]);
    let mut seq = u64_at(&out, 40);
    let mut at = SEGMENT_HEADER;
    while let Some(frame) = out.get_mut(at..).filter(|rest| rest.len() >= FRAME_HEADER && rest[8] != 0) {
        let payload = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        let Some(frame) = frame.get_mut(..FRAME_HEADER + payload) else { break };
        frame[9..17].copy_from_slice(&seq.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c_append(segment, &frame[..4]), &frame[8..]);
        frame[4..8].copy_from_slice(&checksum.to_le_bytes());
        seq = seq.wrapping_add(1);
        at += FRAME_HEADER + payload;
    }
    out
}

fn repaired_snapshot(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.len() < SNAPSHOT_HEADER {
        return out;
    }
    out[..8].copy_from_slice(b"ESTAFSNP");
    out[8..12].copy_from_slice(&log::FORMAT_VERSION.to_le_bytes());
    let length = (out.len() - SNAPSHOT_HEADER) as u64;
    out[24..32].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out[..12]), &out[16..]);
    out[12..16].copy_from_slice(&checksum.to_le_bytes());
    out
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}
