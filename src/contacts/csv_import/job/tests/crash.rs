//! Imports of several chunks: deaths between them, other writers, and what the index says afterwards.

use super::*;

/// A file of several chunks with duplicates across them and bad rows in all.
fn big_file(rows: usize) -> Vec<u8> {
    let mut text = b"key,email,n\n".to_vec();
    for i in 0..rows {
        let key = if i % 1_000 == 999 { i / 2 } else { i };
        let email = if i % 7_001 == 5 { "nobody".to_owned() } else { format!("p{}@x{}.test", key / 2, key % 10) };
        text.extend_from_slice(format!("k{key},{email},{}\n", i % 100).as_bytes());
    }
    text
}

/// Everything in the store that an import decides, row numbers included.
fn state(place: &Place) -> (Vec<Vec<u8>>, Progress, Vec<u8>, Vec<u64>) {
    let reader = place.store.reader().expect("reads");
    let all = reader.universe().expect("universe");
    let mut records = Vec::new();
    reader
        .scan(&all, &mut |_, record| records.push(crate::contacts::RecordBuilder::from_record(record).to_bytes()))
        .expect("scans");
    let n = place.store.schema().by_name("n").expect("added").id;
    let mut sets = vec![reader.shared(Channel::Email).expect("shared").len()];
    sets.extend((0..64).map(|d| reader.digit(n, d).expect("digit").len()));
    sets.push(reader.value(AttributeId::EMAIL_DOMAIN, "x3.test").expect("value").len());
    let progress = reader.import(ImportId(1)).expect("reads").expect("is kept").progress;
    (records, progress, std::fs::read(place.rejected()).expect("reads"), sets)
}

#[test]
fn an_import_that_dies_between_chunks_ends_as_one_that_does_not() {
    let bytes = big_file(limits::IMPORT_CHUNK_ROWS * 2 + 7);
    for duplicates in [Duplicates::Newest, Duplicates::Oldest] {
        let spec = ImportSpec { duplicates, ..spec() };
        let whole = Place::new();
        let (progress, rows) = whole.import(spec.clone(), &bytes);
        assert_eq!(progress.rows, (limits::IMPORT_CHUNK_ROWS * 2 + 7) as u64, "all rows");
        assert_eq!(progress.rows, progress.accepted + progress.merged + progress.rejected, "{progress:?}");
        assert!(progress.merged >= 50 && progress.rejected > 10, "{progress:?}");
        let cut = Place::new();
        let mut job = cut.start(spec, &bytes).expect("starts");
        let mut given: BTreeMap<u32, RoaringBitmap> = BTreeMap::new();
        let mut deaths = 0;
        while let Some(done) = job.next_chunk().expect("imports") {
            let before = given.insert(done.chunk, done.rows.clone());
            assert_eq!(before.is_some(), done.repeated, "only an unconfirmed chunk comes twice");
            assert!(before.is_none_or(|b| b == done.rows), "and with the same rows");
            // Die after every first sight of a chunk: before the confirmation, with rejected rows of the next one written.
            if !done.repeated {
                deaths += 1;
                drop(job);
                let torn = [std::fs::read(cut.rejected()).expect("reads"), b"torn row".to_vec()].concat();
                std::fs::write(cut.rejected(), torn).expect("writes");
                job = ImportJob::resume(&cut.store, ImportId(1)).expect("resumes");
            } else {
                job.confirm_chunk(done.chunk, Vec::new()).expect("confirms");
            }
        }
        assert_eq!(deaths, 3, "one death a chunk");
        assert_eq!(given.values().fold(RoaringBitmap::new(), |all, r| all | r), rows, "the same rows are given");
        drop(job);
        let (a, b) = (state(&whole), state(&cut));
        assert!(a.0 == b.0, "the same records in the same rows");
        assert_eq!((a.1, a.2 == b.2, a.3), (b.1, true, b.3), "the same report, rejected rows and sets");
        assert!(
            matches!(
                ImportJob::start(
                    &cut.store,
                    ImportSpec { duplicates, ..self::spec() },
                    &cut.spool(b""),
                    &cut.rejected()
                ),
                Err(ImportError::Exists { .. })
            ),
            "a number is used once"
        );
    }
}

#[test]
fn after_imports_the_index_agrees_with_the_records() {
    let place = Place::new();
    let row = |i: usize, turn: usize| {
        let email = if i.is_multiple_of(5) { String::new() } else { format!("p{}@x{}.test", (i + turn) / 2, i % 3) };
        format!("k{i},{email},{},v{},v{}|w{turn}\n", (i * 7 + turn) % 11, (i + turn) % 4, i % 3)
    };
    for (number, turn, empty_cells) in [(1, 0, EmptyCells::Keep), (2, 1, EmptyCells::Keep), (3, 2, EmptyCells::Clear)] {
        let rows: String = (turn * 100..600).chain([3, 5, 3, 250]).map(|i| row(i, turn)).collect();
        let spec =
            ImportSpec { import: ImportId(number), empty_cells, now: Timestamp(i64::from(number) << 20), ..spec() };
        let (progress, _) = place.import(spec, format!("key,email,n,city,tags\n{rows}").as_bytes());
        assert_eq!((progress.rows, progress.rejected), (604 - turn as u64 * 100, 0), "{progress:?}");
        crate::contacts::reader::tests::check_against_records(&place.store);
    }
    let half = place.start(ImportSpec { import: ImportId(9), ..spec() }, b"key\n1\n").expect("starts");
    drop(half);
    place.spool(b"key\n1\n2\n");
    assert!(
        matches!(ImportJob::resume(&place.store, ImportId(9)), Err(ImportError::FileChanged { .. })),
        "not that file"
    );
}

#[test]
fn an_import_leaves_room_for_other_writers_and_erased_contacts_come_back_in_new_rows() {
    let place = Place::new();
    let bytes = big_file(limits::IMPORT_CHUNK_ROWS + 10);
    let mut job = place.start(spec(), &bytes).expect("starts");
    let first = job.next_chunk().expect("imports").expect("a chunk");
    job.confirm_chunk(first.chunk, Vec::new()).expect("confirms");
    let row = place.store.reader().expect("reads").row_of_key("k0").expect("reads").expect("is there");
    assert!(place.store.erase(row).expect("erases"), "erased in between");
    place.store.upsert(&ContactInput::with_key("other"), Timestamp(5)).expect("upserts");
    let last = job.next_chunk().expect("imports").expect("a chunk");
    job.confirm_chunk(last.chunk, Vec::new()).expect("confirms");
    assert!(last.progress.finished, "the end");
    let reader = place.store.reader().expect("reads");
    assert_eq!(
        reader.universe().expect("universe").len(),
        reader.contacts().expect("count"),
        "index and records agree"
    );
    assert!(!reader.universe().expect("universe").contains(row.0), "its row stays free");
}
