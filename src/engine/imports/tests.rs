use std::sync::Arc;

use super::*;
use crate::clock::ManualClock;
use crate::contacts::csv_import::Duplicates;
use crate::contacts::{AttributeSets, ConsentStatus};
use crate::engine::recover;
use crate::ids::{Channel, ContactRow};
use crate::journal;
use crate::ledger::{Fact, RowSet};
use crate::limits::IMPORT_CHUNK_ROWS;

/// A data directory, opened as the engine would.
struct Base {
    store: Store,
    book: Arc<Book>,
    imports: Imports,
    clock: Arc<ManualClock>,
}

impl Base {
    fn open(directory: &Path) -> Base {
        let options =
            journal::Options { mark_positions: 1, segment_bytes: 1 << 20, restored: true, ..Default::default() };
        let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
        let (recovered, store) =
            recover::open(directory, &options, clock.clone(), &|_| Default::default()).expect("journal and store open");
        let imports = Imports::open(directory, &store, &recovered.book).expect("the imports open");
        Base { store, book: recovered.book, imports, clock }
    }

    fn spool(&self, text: &str) -> PathBuf {
        let path = self.imports.spool_path();
        fs::write(&path, text).expect("a spool file");
        path
    }

    /// Runs all imports to their ends.
    fn finish(&self) {
        self.imports.start().expect("the thread starts");
        while self.imports.unfinished() > 0 {
            std::thread::yield_now();
        }
        self.imports.stop();
    }

    /// What an import has brought about, in full.
    fn outcome(&self, import: ImportId) -> Outcome {
        let ticket = self.imports.ticket(import).expect("a ticket");
        let reader = self.store.reader().expect("a reader");
        let state = self.book.read();
        let topic = state.consent.topic(Channel::Email, "news").expect("the topic");
        let rejected = fs::read_to_string(self.imports.shared.rejected_path(import)).expect("rejected rows");
        Outcome {
            ticket: (ticket.state, ticket.progress, ticket.error),
            histories: histories(&reader),
            rejected,
            contacts: reader.contacts().expect("a count"),
            next_row: reader.next_row().expect("a count"),
            list: state.lists["all"].rows.clone(),
            subscribed: topic.subscribed.clone(),
            unsubscribed: topic.unsubscribed.clone(),
            chunks: state.imports[&import],
            spool: fs::read_dir(&self.imports.shared.spool).expect("the spool").count(),
            noted: reader.import(import).expect("the store").is_some(),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    ticket: (TicketState, crate::contacts::csv_import::Progress, Option<String>),
    histories: Histories,
    rejected: String,
    contacts: u64,
    next_row: u64,
    list: roaring::RoaringBitmap,
    subscribed: roaring::RoaringBitmap,
    unsubscribed: roaring::RoaringBitmap,
    chunks: u32,
    spool: usize,
    noted: bool,
}

/// Of a share of the contacts what their histories say, each with its count.
/// Takes in opt-outs (every thousandth row) and others.
fn is_told(row: &u32) -> bool {
    row % 1_000 == 7 || row.is_multiple_of(97)
}

type Histories = BTreeMap<String, usize>;

fn histories(reader: &crate::contacts::Reader) -> Histories {
    let mut histories = Histories::new();
    for row in reader.universe().expect("a set").iter().filter(is_told) {
        let history = reader.consent_history(ContactRow(row)).expect("a history");
        let told: Vec<String> = history.iter().map(|e| format!("{:?} {} {}", e.status, e.source, e.at)).collect();
        *histories.entry(told.join(", ")).or_default() += 1;
    }
    histories
}

fn request() -> ImportRequest {
    ImportRequest {
        spec: ImportSpec { key_column: "id".into(), duplicates: Duplicates::Newest, ..ImportSpec::default() },
        list: Some("all".into()),
        subscribe: vec![(Channel::Email, "news".into())],
        ..ImportRequest::default()
    }
}

/// Three chunks, with rejected rows, repeated keys and opt-outs in each.
fn three_chunks() -> String {
    let mut text = "id,email,unsubscribed\n".to_owned();
    for row in 0..IMPORT_CHUNK_ROWS * 2 + 500 {
        let out = if row % 1_000 == 7 { "true" } else { "" };
        let at = if row % 5_000 == 9 { "" } else { "@x.test" };
        let key = if row % 10_000 == 11 { 3 } else { row };
        text.push_str(&format!("{key},a{row}{at},{out}\n"));
    }
    text
}

/// The directory as a kill at this moment would leave it.
fn image(of: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(of).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            image(&entry.path(), &target);
        } else if entry.file_name() != "lock.mdb" {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn a_crash_at_any_point_of_an_import_loses_and_doubles_nothing() {
    let text = three_chunks();
    let root = tempfile::tempdir().expect("a folder");
    let (live, images) = (root.path().join("live"), root.path().join("images"));
    let base = Base::open(&live);
    let spooled = base.spool(&text);
    let ticket = base.imports.submit(request(), &spooled).expect("taken over");
    let mut made = Vec::new();
    let mut crash = |name: String| {
        image(&live, &images.join(&name));
        made.push(name);
    };
    crash("taken over".into());
    let rejected = base.imports.shared.rejected_path(ticket.id);
    let mut running = Running::open(ticket.clone(), &base.store, &spooled, &rejected).expect("begins");
    crash("begun".into());
    while let Some(done) = running.take().expect("a chunk") {
        let number = done.chunk;
        crash(format!("chunk {number} in the store"));
        let consents = running.record(&base.book, done).expect("a fact");
        crash(format!("chunk {number} in the journal"));
        running.confirm(number, consents).expect("confirmed");
    }
    crash("all confirmed".into());
    drop(running);
    base.finish();
    let expected = base.outcome(ticket.id);
    assert_eq!(expected.ticket.0, TicketState::Finished, "it ends: {expected:?}");
    assert_eq!(expected.chunks, 4, "three chunks, counted from 1");
    let progress = &expected.ticket.1;
    assert_eq!(progress.rows, (IMPORT_CHUNK_ROWS * 2 + 500) as u64, "all rows");
    assert_eq!(progress.rows, progress.accepted + progress.merged + progress.rejected, "every row is told");
    assert_eq!(progress.rejected_by.0.values().sum::<u64>(), progress.rejected, "{:?}", progress.rejected_by);
    assert_eq!(expected.list.len(), expected.contacts, "everybody is in the list");
    assert!(expected.unsubscribed.len() > 90, "opt-outs in the file");
    let told = |status: &str| expected.histories[&format!("{status} import-1 {}", ticket.started_at)] as u64;
    assert_eq!(
        told("Subscribed"),
        expected.subscribed.iter().filter(is_told).count() as u64,
        "{:?}",
        expected.histories
    );
    assert_eq!(
        told("Unsubscribed"),
        expected.unsubscribed.iter().filter(is_told).count() as u64,
        "source and time of each: {:?}",
        expected.histories
    );
    assert_eq!(expected.histories.len(), 2, "and nothing else: {:?}", expected.histories);
    assert_eq!((expected.spool, expected.noted), (0, false), "the upload and the store's notes are gone");
    assert_eq!(made.len(), 9, "{made:?}");
    for name in made {
        let base = Base::open(&images.join(&name));
        base.finish();
        assert_eq!(base.outcome(ticket.id), expected, "killed when: {name}");
    }
}

#[test]
fn opt_outs_stay_unless_told_otherwise_and_erased_rows_stay_erased() {
    let root = tempfile::tempdir().expect("a folder");
    let base = Base::open(root.path());
    let import = |text: &str, request: ImportRequest| {
        let spooled = base.spool(text);
        base.imports.submit(request, &spooled).map(|ticket| ticket.id)
    };
    import("id,unsubscribed\n1,\n2,yes\n3,\n", request()).expect("taken over");
    base.finish();
    base.imports.shared.stopping.store(false, Ordering::Release);
    let status = |key: &str| {
        let row = base.store.reader().expect("a reader").row_of_key(key).expect("a read").expect("a contact");
        base.book.read().consent.status(Channel::Email, "news", row.0)
    };
    assert_eq!((status("1"), status("2")), (ConsentStatus::Subscribed, ConsentStatus::Unsubscribed));
    import("id\n2\n", request()).expect("taken over");
    base.finish();
    base.imports.shared.stopping.store(false, Ordering::Release);
    assert_eq!(status("2"), ConsentStatus::Unsubscribed, "an import does not take an opt-out back");
    import("id\n2\n", ImportRequest { resubscribe: true, ..request() }).expect("taken over");
    base.finish();
    base.imports.shared.stopping.store(false, Ordering::Release);
    assert_eq!(status("2"), ConsentStatus::Subscribed, "unless it is told to");
    let reader = base.store.reader().expect("a reader");
    let row = reader.row_of_key("2").expect("a read").expect("a contact");
    let history = reader.consent_history(row).expect("a history");
    let told: Vec<_> = history.iter().map(|e| (e.source.as_str(), e.status)).collect();
    let out = ("import-1", ConsentStatus::Unsubscribed);
    assert_eq!(told, [out, ("import-3", ConsentStatus::Subscribed)], "only what changed something");
    drop(reader);

    let row = base.store.reader().expect("a reader").row_of_key("3").expect("a read").expect("a contact");
    let rows = crate::ledger::RowSet::base(roaring::RoaringBitmap::from_iter([row.0]));
    base.book.commit_durable(&crate::ledger::Fact::ContactsErased { rows }).expect("a fact");
    import("id\n3\n", request()).expect("taken over");
    base.finish();
    assert_eq!(status("3"), ConsentStatus::None, "a fact about an erased row means nobody");
    assert!(!base.book.read().lists["all"].rows.contains(row.0), "and no list");
    let record = base.store.reader().expect("a reader");
    assert!(record.universe().expect("a set").contains(row.0), "only the journal erased it here");
    assert!(record.record(ContactRow(row.0)).expect("a read").is_some(), "so the record is there");
}

#[test]
fn a_request_that_is_sent_again_is_the_same_import_also_after_a_crash() {
    let root = tempfile::tempdir().expect("a folder");
    let named = |name: &str| ImportRequest { request: Some(name.into()), ..request() };
    let base = Base::open(root.path());
    let submit = |base: &Base, name: &str| {
        let spooled = base.spool("id\n1\n2\n");
        (base.imports.submit(named(name), &spooled).expect("taken over"), spooled)
    };
    let (first, _) = submit(&base, "a");
    // Killed before the answer was kept.
    drop(base);
    let base = Base::open(root.path());
    let (again, spooled) = submit(&base, "a");
    assert_eq!(again.id, first.id, "the same request is the same import");
    assert!(!spooled.exists(), "and its second upload is not kept");
    let (other, _) = submit(&base, "b");
    assert_ne!(other.id, first.id, "another request is another import");
    base.finish();
    assert_eq!(base.imports.tickets(None, 10).len(), 2, "two imports in all");
    assert_eq!(base.imports.ticket(first.id).expect("a ticket").progress.created, 2, "the first made the contacts");
}

#[test]
fn what_the_header_shows_is_refused_at_once_and_leaves_the_upload_alone() {
    let root = tempfile::tempdir().expect("a folder");
    let base = Base::open(root.path());
    for (text, wanted) in
        [("", "empty"), ("id,email\n", "no rows"), ("name\nAnn\n", "no column \"id\""), ("id,a,a\n1,2,3\n", "twice")]
    {
        let spooled = base.spool(text);
        let refused = base.imports.submit(request(), &spooled).expect_err(wanted).to_string();
        assert!(refused.contains(wanted), "{refused:?} says {wanted:?}");
        assert!(spooled.is_file(), "the file is still the caller's");
    }
    let spooled = base.spool("id,unsubscribed\n1,yes\n");
    let mut alone = request();
    alone.subscribe.clear();
    alone.spec.unsubscribed_column = Some("unsubscribed".into());
    let refused = base.imports.submit(alone, &spooled).expect_err("no topic").to_string();
    assert!(refused.contains("no topic"), "{refused}");
    assert_eq!(base.imports.tickets(None, 10).len(), 0, "nothing was taken over");
    drop(base);
    let again = Base::open(root.path());
    assert_eq!(
        fs::read_dir(&again.imports.shared.spool).expect("the spool").count(),
        0,
        "leftovers are deleted at start"
    );
}

#[test]
fn a_file_that_is_gone_fails_its_import_and_the_next_one_runs() {
    let root = tempfile::tempdir().expect("a folder");
    let base = Base::open(root.path());
    let spooled = base.spool("id\n1\n");
    let lost = base.imports.submit(request(), &spooled).expect("taken over").id;
    fs::remove_file(&spooled).expect("deleted");
    let spooled = base.spool("id\n2\n");
    let good = base.imports.submit(request(), &spooled).expect("taken over").id;
    base.finish();
    let failed = base.imports.ticket(lost).expect("a report");
    assert_eq!(failed.state, TicketState::Failed);
    assert!(failed.error.as_deref().is_some_and(|e| e.contains("cannot be opened")), "{:?}", failed.error);
    assert_eq!(
        base.imports.ticket(good).expect("a report").state,
        TicketState::Finished,
        "one failure stops nobody else"
    );
    base.imports.shared.stopping.store(false, Ordering::Release);
    base.imports.keep_for(Duration::from_secs(60));
    base.finish();
    assert!(base.imports.ticket(good).is_ok(), "a report is kept for its time");
    base.imports.shared.stopping.store(false, Ordering::Release);
    base.clock.advance(Duration::from_secs(61));
    base.finish();
    let left = fs::read_dir(&base.imports.shared.rejected).expect("a folder").count();
    assert_eq!(left, 0, "then its rejected rows are deleted");
    assert!(base.imports.ticket(good).is_err(), "and are gone");
}

#[test]
fn what_quotes_the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().expect("a directory");
    for folder in ["spool", "imports", "rejected"] {
        // As an earlier release made them.
        fs::create_dir(root.path().join(folder)).expect("a folder");
    }
    let base = Base::open(root.path());
    let spooled = base.spool("id,email\nk1,ann@x.org\nk2,no address\n");
    let ticket = base.imports.submit(request(), &spooled).expect("taken over");
    base.finish();
    let rejected = base.imports.rejected(ticket.id).expect("known").expect("a rejected row");
    let folders = ["spool", "imports", "rejected"].map(|name| root.path().join(name));
    let report = folders[1].join(format!("{}.json", ticket.id.0));
    for path in folders.iter().chain([&rejected, &report]) {
        let mode = fs::metadata(path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
}

#[test]
fn a_new_key_for_a_mailbox_that_opted_out_is_not_subscribed_by_an_import() {
    let root = tempfile::tempdir().expect("a folder");
    let base = Base::open(root.path());
    let import = |text: &str, request: ImportRequest| {
        let spooled = base.spool(text);
        base.imports.submit(request, &spooled).expect("taken over");
        base.finish();
        base.imports.shared.stopping.store(false, Ordering::Release);
    };
    let row = |key: &str| base.store.reader().expect("a reader").row_of_key(key).expect("a read").expect("a contact").0;
    let status = |key: &str| base.book.read().consent.status(Channel::Email, "news", row(key));
    use ConsentStatus::{None as Silent, Subscribed, Unsubscribed};
    import("id,email,unsubscribed\n1,ann@x.test,yes\n2,bob@x.test,\n3,cid@x.test,\n", request());
    import("id,email\n4,Ann@x.test\n5,bob@x.test\n6,dan@x.test\n", request());
    assert_eq!((status("4"), status("5"), status("6")), (Unsubscribed, Subscribed, Subscribed), "Ann said no");
    import("id,email,unsubscribed\n7,eve@x.test,\n8,eve@x.test,true\n", request());
    assert_eq!((status("7"), status("8")), (Unsubscribed, Unsubscribed), "within a file, too");
    let topics = ImportRequest { subscribe: vec![(Channel::Email, "offers".into())], ..request() };
    import("id,email\n9,ann@x.test\n", topics);
    assert_eq!(status("9"), Silent, "nobody asked for this topic");
    let offers = base.book.read().consent.status(Channel::Email, "offers", row("9"));
    assert_eq!(offers, Subscribed, "an opt-out is one of a topic");
    // Bob's first contact opts out after the second one has subscribed by itself.
    let fact = crate::ledger::facts::ConsentChanged {
        channel: Channel::Email,
        topic: "news".into(),
        status: Unsubscribed,
        rows: RowSet::base(roaring::RoaringBitmap::from_iter([row("2")])),
        source: "test".into(),
        at: Timestamp(1),
    };
    base.book.commit_durable(&Fact::ConsentChanged(fact)).expect("a fact");
    import("id,email\n5,bob@x.test\n", request());
    assert_eq!(status("5"), Subscribed, "who is subscribed stays so");
    import("id,email\n4,ann@x.test\n", ImportRequest { resubscribe: true, ..request() });
    assert_eq!(status("4"), Subscribed, "unless it is told to");
}

#[test]
fn an_opt_out_from_everything_is_taken_back_by_resubscribe_alone() {
    let root = tempfile::tempdir().expect("a folder");
    let base = Base::open(root.path());
    let import = |text: &str, request: ImportRequest| {
        let spooled = base.spool(text);
        base.imports.submit(request, &spooled).expect("taken over");
        base.finish();
        base.imports.shared.stopping.store(false, Ordering::Release);
    };
    let hashes = ["ann@x.test", "bob@x.test"].map(|address| base.store.address_hash(Channel::Email, address));
    let out = crate::ledger::facts::Suppressed {
        channel: Some(Channel::Email),
        reason: crate::ledger::suppression::SuppressReason::Unsubscribed,
        rows: RowSet::default(),
        addresses: hashes.to_vec(),
        at: Timestamp(1),
    };
    base.book.commit_durable(&Fact::Suppressed(out)).expect("a fact");
    let left = || hashes.map(|hash| base.book.read().suppression.is_address_suppressed(Channel::Email, hash).is_some());
    import("id,email\n1,ann@x.test\n2,bob@x.test\n", request());
    assert_eq!(left(), [true, true], "a contact of later with the address changes nothing");
    import("id,email\n1,ann@x.test\n", ImportRequest { resubscribe: true, ..request() });
    assert_eq!(left(), [false, true], "for those in the file, if it is told to");
}
