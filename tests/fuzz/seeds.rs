//! The binary seeds: made by the engine's own writers, so that mutations begin at what a real directory holds.

use estafette::clock::Timestamp;
use estafette::content::{TokenId, TokenKeys};
use estafette::ids::{BatchId, CampaignId, ContactRow, DeliveryId, ImportId, MessageId, RowSpace, RunId};
use estafette::journal::{FOLDER, Journal, Options};
use estafette::ledger::batch::BootId;
use estafette::ledger::facts::{ImportChunk, Returned, Settled};
use estafette::ledger::{Fact, RejectClass, RowSet, RunState, State, snapshot};
use estafette::segments::skip::SkipReason;
use roaring::RoaringBitmap;

use super::{corpus, entries, folder};

const REMAKE: &str = "ESTAFETTE_FUZZ_REMAKE";
/// Of the segment that the seed is made of; what is kept ends some zeros after the last frame.
const SEGMENT_BYTES: u64 = 64 * 1024;

fn rows(from: u32, to: u32) -> RoaringBitmap {
    (from..to).collect()
}

/// One fact a kind of move that the history leaves legal, and a few that need no run.
fn facts() -> Vec<(String, Fact)> {
    let delivery = DeliveryId { run: RunId(1), index: 0 };
    let at = Timestamp(6_000);
    let mut settled = Settled::new(BatchId(1), delivery, at);
    settled.accepted = rows(25, 30);
    settled.rejected = vec![(RejectClass::HardBounce, rows(30, 32)), (RejectClass::SoftBounce, rows(32, 33))];
    settled.skipped = vec![(SkipReason::Unsubscribed, rows(33, 34))];
    let chunk = ImportChunk {
        opted_out: Vec::new(),
        import: ImportId(1),
        chunk: 0,
        rows: RowSet::base(rows(100, 200)),
        list: Some("everyone".to_owned()),
        subscribe: vec![(estafette::ids::Channel::Email, "news".to_owned())],
        resubscribe: false,
        unsubscribed: RowSet::base(rows(150, 152)),
        at,
    };
    let numbered = entries::history().into_iter().enumerate().map(|(n, fact)| (format!("history-{n}"), fact));
    let more = [
        ("settled", Fact::Settled(settled)),
        ("returned", Fact::Returned(Returned { batch: BatchId(1), delivery, rows: rows(34, 40), at })),
        ("skipped", Fact::Skipped { delivery, reason: SkipReason::Stopped, rows: RowSet::base(rows(50, 60)), at }),
        ("given-up", Fact::GivenUp { delivery, rows: RowSet::base(rows(22, 25)), at }),
        ("unknown-settled", Fact::UnknownSettled { delivery, rows: RowSet::base(rows(20, 22)), resend: true, at }),
        ("moved", Fact::RunMoved { run: RunId(1), to: RunState::Paused, reason: "asked".to_owned(), at }),
        ("erased", Fact::ContactsErased { rows: RowSet::base(rows(3, 4)) }),
        ("events-forgotten", Fact::EventsForgotten { name: "purchase".to_owned(), before: 20_000, at }),
        ("archived", Fact::CampaignArchived { campaign: CampaignId(1), at }),
        ("import-chunk", Fact::ImportChunk(chunk)),
    ];
    numbered.chain(more.map(|(name, fact)| (name.to_owned(), fact))).collect()
}

fn state() -> State {
    let mut state = State::default();
    for fact in entries::history() {
        state.apply(&fact, BootId::default()).expect("the history is sound");
    }
    state
}

/// A segment and a snapshot as the journal writes them.
fn files() -> (Vec<u8>, Vec<u8>) {
    let directory = tempfile::tempdir().expect("a folder");
    let options = Options { segment_bytes: SEGMENT_BYTES, mark_positions: 64, ..Options::default() };
    let opened = Journal::open(directory.path(), &options, &mut |_| Ok(())).expect("a new journal opens");
    opened.journal.flush().expect("it flushes");
    opened.marks.zero();
    let mut seq = 0;
    for fact in entries::history() {
        let payload = fact.encode().expect("a fact has bytes");
        seq = opened.journal.submit(fact.kind(), payload, estafette::journal::Want::idle()).expect("it is taken");
    }
    opened.journal.flush().expect("it flushes");
    let read = |prefix: &str| {
        let entries = std::fs::read_dir(directory.path().join(FOLDER)).expect("the folder of the journal");
        let mut files: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
        files.sort();
        let found =
            files.iter().rev().find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)));
        std::fs::read(found.unwrap_or_else(|| panic!("a {prefix} file"))).expect("it can be read")
    };
    let mut segment = read("segment-");
    let used = segment.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    segment.truncate(used + 64);
    let segment = entries::repaired_segment(&segment);
    let encoded = snapshot::encode(&state()).expect("a state has bytes");
    opened.journal.write_snapshot(seq, &encoded).expect("a snapshot is written");
    (segment, read("snapshot-"))
}

fn tokens() -> Vec<(&'static str, String)> {
    let keys = TokenKeys::new(&[0; 32]);
    let id = TokenId { space: RowSpace::BASE, run: RunId(1), message: MessageId(0), row: ContactRow(7) };
    let url = "https://shop.example.test/a?b=c";
    vec![
        ("link", keys.make_link(id).as_str().to_owned()),
        ("link-url", format!("{}\n{url}", keys.make_link_url(id, 0, url).as_str())),
        ("unsubscribe", keys.make_unsubscribe(id).as_str().to_owned()),
        ("view", keys.make_view(id).as_str().to_owned()),
        ("return", keys.make_return_path(id).as_str().to_owned()),
    ]
}

fn remake() {
    let write = |target: &str, name: &str, bytes: &[u8]| {
        std::fs::write(folder(target).join(name), bytes).expect("a seed is written");
    };
    let (segment, snapshot) = files();
    write("journal", "segment", &segment);
    write("journal", "header-alone", &segment[..64]);
    write("snapshot", "snapshot", &snapshot);
    write("snapshot", "header-alone", &snapshot[..64]);
    for (name, fact) in facts() {
        write("fact", &name, &fact.encode().expect("a fact has bytes"));
    }
    for (name, token) in tokens() {
        write("token", name, token.as_bytes());
    }
}

/// What is behind the checks is only reached from seeds that pass them.
#[test]
fn seeds_are_of_this_format() {
    if std::env::var_os(REMAKE).is_some() {
        remake();
    }
    let seed = |target: &str, name: &str| {
        let found = corpus(target).into_iter().find(|(n, _)| n == name);
        found.unwrap_or_else(|| panic!("{target}/{name} is in the corpus")).1
    };
    let frames = estafette::journal::fuzz_open(&seed("journal", "segment"));
    assert_eq!(frames, entries::history().len() as u64, "the seed holds the history: remake the seeds with {REMAKE}=1");
    assert!(estafette::journal::fuzz_snapshot(&seed("snapshot", "snapshot")), "the snapshot is valid: {REMAKE}=1");
    for (name, _) in facts() {
        assert!(corpus("fact").iter().any(|(known, _)| *known == name), "fact/{name} is in the corpus: {REMAKE}=1");
    }
    for (name, bytes) in corpus("fact").iter().filter(|(name, _)| !name.contains('.')) {
        let fact = Fact::decode(bytes).unwrap_or_else(|e| panic!("{name}: {e}: {REMAKE}=1"));
        assert!(name.starts_with("history") || state().apply(&fact, BootId::default()).is_ok(), "{name} is legal");
    }
}
