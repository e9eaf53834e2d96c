//! Any sequence of submits, flushes, snapshots, kills and power losses, against a vector.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Submit {
        bytes: usize,
        urgent: bool,
    },
    Flush,
    /// Up to a share of what is durable, in percent.
    Snapshot {
        percent: u64,
    },
    Close,
    Kill,
    /// Unsynced bytes of the newest segment from this percentage on are gone.
    PowerLoss {
        percent: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..300usize, any::<bool>()).prop_map(|(bytes, urgent)| Op::Submit { bytes, urgent }),
        2 => Just(Op::Flush),
        1 => (0..=100u64).prop_map(|percent| Op::Snapshot { percent }),
        1 => Just(Op::Close),
        1 => Just(Op::Kill),
        1 => (0..=100u64).prop_map(|percent| Op::PowerLoss { percent }),
    ]
}

struct Run {
    dir: tempfile::TempDir,
    opened: Option<Opened>,
    boot: u8,
    /// Payloads of frames 1, 2, …
    model: Vec<Vec<u8>>,
    snapshot: u64,
    /// Frames that survive a power loss, whatever happens.
    durable: Arc<AtomicU64>,
}

impl Run {
    fn new() -> Run {
        let dir = quick_dir();
        let mut run = Run { dir, opened: None, boot: 1, model: Vec::new(), snapshot: 0, durable: Arc::default() };
        run.start(0);
        run
    }

    fn options(&self) -> Options {
        Options { boot: BootId([self.boot; 16]), disk: Arc::new(Unsynced), ..options() }
    }

    fn live(&self) -> &Opened {
        self.opened.as_ref().expect("open")
    }

    /// Opens; at least `at_least` frames must be there, and a prefix of the model.
    fn start(&mut self, at_least: u64) {
        let (opened, replay) = open(self.dir.path(), &self.options()).expect("never refused");
        let last = opened.report.last_seq;
        assert!(
            last >= at_least && last <= self.model.len() as u64,
            "{at_least} to {} frames, got {last}",
            self.model.len()
        );
        self.model.truncate(last as usize);
        assert_eq!(replay.snapshot.as_ref().map_or(0, |s| s.0), self.snapshot, "the newest snapshot");
        let state = replay.snapshot.map(|s| s.1).unwrap_or_default();
        assert_eq!(state, state_of(&self.model, self.snapshot), "with its bytes");
        let seen: Vec<&[u8]> = replay.frames.iter().map(|f| &f.payload[..]).collect();
        let wanted: Vec<&[u8]> = self.model[self.snapshot as usize..].iter().map(Vec::as_slice).collect();
        assert_eq!(seen, wanted, "frames after the snapshot");
        opened.marks.zero();
        self.durable.store(last, Ordering::SeqCst);
        self.opened = Some(opened);
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Submit { bytes, urgent } => {
                let payload = vec![self.model.len() as u8; *bytes];
                self.model.push(payload.clone());
                let durable = self.durable.clone();
                let mut want = Want::durable(move |seq| durable.store(seq, Ordering::SeqCst));
                want.urgency = if *urgent { Urgency::Now } else { Urgency::Idle };
                let seq = self.live().journal.submit(1, payload, want).expect("open");
                assert_eq!(seq, self.model.len() as u64, "numbers go on");
            }
            Op::Flush => {
                assert_eq!(self.live().journal.flush().expect("open"), self.model.len() as u64, "all is durable");
            }
            Op::Snapshot { percent } => {
                let seq = (self.model.len() as u64 * percent / 100).max(self.snapshot);
                if seq > self.snapshot {
                    self.live().journal.write_snapshot(seq, &state_of(&self.model, seq)).expect("written");
                    self.snapshot = seq;
                }
            }
            Op::Close => {
                self.opened.take().expect("open").journal.close().expect("closed");
                self.start(self.model.len() as u64);
            }
            Op::Kill => {
                let opened = self.opened.take().expect("open");
                let written = opened.journal.written_seq();
                opened.journal.abandon();
                self.start(written.max(self.snapshot));
            }
            Op::PowerLoss { percent } => self.lose_power(*percent),
        }
    }

    fn lose_power(&mut self, percent: u64) {
        self.opened.take().expect("open").journal.abandon();
        let durable = self.durable.load(Ordering::SeqCst);
        let path = newest_segment(self.dir.path());
        let mut bytes = std::fs::read(&path).expect("bytes");
        let listed = segment::Listed { id: 0, path: path.clone() };
        let first = reader::read_header(&listed).expect("a header").first_seq;
        // The sync slot names no less than what was told; what it names was synced.
        let durable = durable.max(sync_slot::read(&self.dir.path().join(FOLDER)));
        let kept = (first..=durable).map(|seq| frame::FRAME_HEADER + self.model[seq as usize - 1].len());
        let synced = segment::SEGMENT_HEADER + kept.sum::<usize>();
        let used = frame::zeros_from(&bytes).max(synced);
        let cut = synced + (used - synced) * percent as usize / 100;
        bytes[cut..].fill(0);
        std::fs::write(&path, bytes).expect("cut");
        self.boot += 1;
        self.start(durable.max(self.snapshot));
    }
}

fn state_of(model: &[Vec<u8>], seq: u64) -> Vec<u8> {
    model[..seq as usize].iter().flat_map(|payload| (payload.len() as u32).to_le_bytes()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_is_a_vector_that_forgets_only_what_it_never_promised(ops in prop::collection::vec(op(), 1..60)) {
        let mut run = Run::new();
        for op in &ops {
            run.apply(op);
        }
        run.apply(&Op::Close);
    }
}
