//! The power fails, or the process is killed, before every single call to the disk; unsynced writes survive in part.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;

use parking_lot::Mutex;

use super::*;

/// What a file is known to hold, and what was written since.
#[derive(Clone, Debug, Default)]
struct Pages {
    durable: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct Rename {
    from: PathBuf,
    to: PathBuf,
    replaced: Option<Vec<u8>>,
}

/// The moment before one call.
#[derive(Clone, Debug)]
struct Moment {
    /// By name: inode, and bytes as a process would read them.
    files: Vec<(String, u64, Vec<u8>)>,
    pages: HashMap<u64, Pages>,
    renames: Vec<Rename>,
    written: u64,
    durable: u64,
}

/// Remembers what is synced and what is not, and the state before every call.
#[derive(Debug)]
struct Witness {
    folder: PathBuf,
    state: Mutex<State>,
    written: Arc<AtomicU64>,
    durable: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<u64, Pages>,
    renames: Vec<Rename>,
    moments: Vec<Moment>,
}

impl Witness {
    fn remember(&self, state: &mut State) {
        // What was told must be read before the files: it can only grow while they are read.
        let (written, durable) = (self.written.load(Ordering::SeqCst), self.durable.load(Ordering::SeqCst));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder).expect("listed") {
            let path = entry.expect("entry").path();
            let name = path.file_name().and_then(|n| n.to_str()).expect("a name").to_owned();
            let (Ok(metadata), Ok(bytes)) = (std::fs::metadata(&path), std::fs::read(&path)) else {
                continue;
            };
            files.push((name, metadata.ino(), bytes));
        }
        let (pages, renames) = (state.pages.clone(), state.renames.clone());
        state.moments.push(Moment { files, pages, renames, written, durable });
    }
}

impl Disk for Witness {
    fn write_at(&self, site: Site, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        self.remember(&mut state);
        let metadata = file.metadata()?;
        let pages = state.pages.entry(metadata.ino()).or_default();
        if metadata.len() == 0 {
            *pages = Pages::default();
        }
        pages.unsynced.push((offset, bytes.to_vec()));
        RealDisk.write_at(site, file, bytes, offset)
    }

    fn sync(&self, site: Site, file: &File) -> io::Result<()> {
        let mut state = self.state.lock();
        self.remember(&mut state);
        if site == Site::Directory {
            state.renames.clear();
            return Ok(());
        }
        let pages = state.pages.entry(file.metadata()?.ino()).or_default();
        for (offset, bytes) in std::mem::take(&mut pages.unsynced) {
            put(&mut pages.durable, offset, &bytes);
        }
        Ok(())
    }

    fn rename(&self, site: Site, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        self.remember(&mut state);
        state.renames.push(Rename { from: from.to_owned(), to: to.to_owned(), replaced: std::fs::read(to).ok() });
        RealDisk.rename(site, from, to)
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset as usize..end].copy_from_slice(bytes);
}

/// A small generator; the seed is in the message of every assertion.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

/// What the disk holds after the power failed: synced bytes, and of each unsynced write nothing, all, a part or garbage.
fn after_power_loss(moment: &Moment, chance: &mut Chance) -> Vec<(String, Vec<u8>)> {
    let style = chance.next(4);
    let mut files = Vec::new();
    for (name, inode, bytes) in &moment.files {
        let content = match moment.pages.get(inode) {
            None => bytes.clone(),
            Some(pages) => {
                let mut content = pages.durable.clone();
                for (offset, written) in &pages.unsynced {
                    survive(&mut content, *offset, written, style, chance);
                }
                content
            }
        };
        files.push((name.clone(), content));
    }
    // A rename that was not synced may not have happened, and then none after it did.
    if !moment.renames.is_empty() && chance.next(2) == 0 {
        for rename in moment.renames.iter().rev() {
            let name = |path: &Path| path.file_name().and_then(|n| n.to_str()).expect("a name").to_owned();
            let (from, to) = (name(&rename.from), name(&rename.to));
            for file in files.iter_mut().filter(|file| file.0 == to) {
                file.0.clone_from(&from);
            }
            if let Some(replaced) = &rename.replaced {
                files.push((to, replaced.clone()));
            }
        }
    }
    files
}

fn survive(content: &mut Vec<u8>, offset: u64, written: &[u8], style: u64, chance: &mut Chance) {
    match if style == 3 { chance.next(3) } else { style } {
        0 => {}
        1 => {
            let cut = chance.next(written.len() as u64 + 1) as usize;
            put(content, offset, &written[..cut]);
        }
        _ => {
            let mut garbled = written.to_vec();
            for _ in 0..=chance.next(4) {
                let at = chance.next(garbled.len() as u64) as usize;
                let run = (chance.next(40) as usize).min(garbled.len() - at);
                let noise = chance.next(2) * 0xa5;
                garbled[at..at + run].iter_mut().for_each(|byte| *byte = noise as u8);
            }
            put(content, offset, &garbled);
        }
    }
}

/// Opens, submits, snapshots, closes, twice, and is killed in between; every moment of it.
fn life() -> Vec<Moment> {
    let dir = quick_dir();
    let folder = dir.path().join(FOLDER);
    std::fs::create_dir(&folder).expect("made");
    let (written, durable) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let witness =
        Arc::new(Witness { folder, state: Mutex::default(), written: written.clone(), durable: durable.clone() });
    let options = Options { disk: witness.clone(), segment_bytes: 512, ..options() };
    let mut next = 1;
    for round in 0..3 {
        let (opened, replay) = open(dir.path(), &options).expect("opens");
        let known = opened.report.last_seq;
        assert!(replay.frames.iter().all(|f| f.same_boot), "the same boot throughout");
        assert!(known < next, "no frame comes from nowhere");
        next = known + 1;
        // From here on the recovered frames are durable, and were told so by the start itself.
        durable.store(known, Ordering::SeqCst);
        written.store(known, Ordering::SeqCst);
        opened.marks.zero();
        for i in next..next + 14 {
            let (written, durable) = (written.clone(), durable.clone());
            let want = Want {
                urgency: if i % 4 == 0 { Urgency::Now } else { Urgency::Idle },
                written: Some(Box::new(move |seq| written.store(seq, Ordering::SeqCst))),
                durable: Some(Box::new(move |seq| durable.store(seq, Ordering::SeqCst))),
            };
            opened.journal.submit((i % 7) as u8, payload(i), want).expect("submitted");
        }
        next += 14;
        if round == 1 {
            opened.journal.write_snapshot(20, b"state at 20").expect("written");
        }
        if round == 0 {
            while opened.journal.written_seq() < 10 {
                std::thread::yield_now();
            }
            opened.journal.abandon();
        } else {
            opened.journal.close().expect("closed");
        }
    }
    std::mem::take(&mut witness.state.lock().moments)
}

/// Puts `files` into a directory that passes for the original; an identity is there if it was.
fn lay_out(files: &[(String, Vec<u8>)]) -> tempfile::TempDir {
    let dir = quick_dir();
    let folder = dir.path().join(FOLDER);
    std::fs::create_dir(&folder).expect("made");
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).expect("written");
    }
    if files.iter().any(|(name, _)| name == "identity") {
        adopt(dir.path());
    }
    dir
}

fn verify(dir: &Path, boot: BootId, at_least: u64, context: &str) {
    let options = Options { disk: Arc::new(Unsynced), segment_bytes: 512, ..booted(boot) };
    let (opened, replay) = open(dir, &options).unwrap_or_else(|e| panic!("{context}: refused: {e}"));
    let last = opened.report.last_seq;
    assert!(last >= at_least, "{context}: {at_least} were promised, {last} are there");
    let base = replay.snapshot.as_ref().map_or(0, |s| s.0);
    assert!(
        base == 0 || replay.snapshot.as_ref().is_some_and(|s| s.1 == b"state at 20"),
        "{context}: the snapshot is whole"
    );
    let seen: Vec<(u64, u8, Vec<u8>)> = replay.frames.into_iter().map(|f| (f.seq, f.kind, f.payload)).collect();
    let wanted: Vec<_> = (base + 1..=last).map(|i| (i, (i % 7) as u8, payload(i))).collect();
    assert_eq!(seen, wanted, "{context}: the frames are those that were submitted");
    submit(&opened.journal, last + 1..last + 4);
    opened.journal.close().expect("closed");
    let (opened, _) = open(dir, &options).unwrap_or_else(|e| panic!("{context}: refused at the second start: {e}"));
    assert_eq!(opened.report.last_seq, last + 3, "{context}: it goes on where it was");
}

#[test]
fn a_kill_before_any_call_loses_no_written_frame() {
    let moments = life();
    assert!(moments.len() > 80, "only {} moments", moments.len());
    for (at, moment) in moments.iter().enumerate() {
        let files: Vec<(String, Vec<u8>)> =
            moment.files.iter().map(|(name, _, bytes)| (name.clone(), bytes.clone())).collect();
        let dir = lay_out(&files);
        verify(dir.path(), BOOT, moment.written, &format!("killed before call {at}"));
    }
}

#[test]
fn a_power_loss_before_any_call_loses_no_durable_frame_and_is_never_refused() {
    let moments = life();
    for (at, moment) in moments.iter().enumerate() {
        for seed in 0..8 {
            let files = after_power_loss(moment, &mut Chance(at as u64 * 1000 + seed));
            let dir = lay_out(&files);
            verify(dir.path(), OTHER_BOOT, moment.durable, &format!("power lost before call {at}, seed {seed}"));
        }
    }
}

#[test]
fn an_unsynced_tail_is_dropped_cut_or_garbled_at_every_byte() {
    let dir = quick_dir();
    let options = Options { commit_idle: Duration::from_secs(3600), disk: Arc::new(Unsynced), ..options() };
    let (opened, _) = open(dir.path(), &options).expect("opens");
    submit(&opened.journal, 1..6);
    assert_eq!(opened.journal.flush().expect("flushed"), 5, "five are durable");
    submit(&opened.journal, 6..10);
    while opened.journal.written_seq() < 9 {
        std::thread::yield_now();
    }
    opened.journal.abandon();
    let whole = std::fs::read(newest_segment(dir.path())).expect("bytes");
    let sizes: Vec<usize> = (1..10).map(|i| frame::FRAME_HEADER + payload(i).len()).collect();
    let synced = segment::SEGMENT_HEADER + sizes[..5].iter().sum::<usize>();
    let end = synced + sizes[5..].iter().sum::<usize>();
    for cut in synced..end {
        for (style, boot) in [("cut", BOOT), ("cut", OTHER_BOOT), ("garbled", OTHER_BOOT)] {
            let copy = clone_of(dir.path());
            let mut bytes = whole.clone();
            match style {
                "cut" => bytes[cut..].fill(0),
                _ => bytes[cut..end].iter_mut().for_each(|byte| *byte ^= 0x5a),
            }
            std::fs::write(newest_segment(copy.path()), &bytes).expect("written");
            let survivors = sizes.iter().scan(segment::SEGMENT_HEADER, |at, size| {
                *at += size;
                Some(*at)
            });
            let whole_frames = survivors.take_while(|frame_end| *frame_end <= cut).count() as u64;
            let context = format!("{style} at byte {cut}, boot {boot}");
            let (opened, replay) = open(copy.path(), &Options { boot, ..options.clone() })
                .unwrap_or_else(|e| panic!("{context}: refused: {e}"));
            // Zeros that a cut leaves where zeros stood anyway change nothing.
            assert!(opened.report.last_seq >= whole_frames.max(5), "{context}: whole frames stay");
            assert_eq!(replay.frames, expected(1..opened.report.last_seq + 1, boot == BOOT), "{context}: in order");
        }
    }
}
