//! Whole imports: what is in the store afterwards, after crashes, and with bad files.

mod crash;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::contacts::csv_import::{DryRun, Duplicates, EmptyCells, Fault, NewAttribute, NewColumns, dry_run};
use crate::contacts::{AttributeSets, AttributeType, ContactInput, IndexKind, Schema, Value};
use crate::ids::{AttributeId, Channel};
use crate::limits;

struct Place {
    dir: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&dir.path().join("store")).expect("opens");
        Place { dir, store }
    }

    fn spool(&self, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.dir.path().join("spool.csv");
        std::fs::write(&path, bytes).expect("writes");
        path
    }

    fn rejected(&self) -> std::path::PathBuf {
        self.dir.path().join("rejected.csv")
    }

    fn start(&self, spec: ImportSpec, bytes: &[u8]) -> Result<ImportJob, ImportError> {
        ImportJob::start(&self.store, spec, &self.spool(bytes), &self.rejected())
    }

    /// Runs an import to its end and answers the progress and all rows.
    fn import(&self, spec: ImportSpec, bytes: &[u8]) -> (Progress, RoaringBitmap) {
        let mut job = self.start(spec, bytes).expect("starts");
        let mut rows = RoaringBitmap::new();
        while let Some(done) = job.next_chunk().expect("imports") {
            rows |= done.rows;
            job.confirm_chunk(done.chunk, Vec::new()).expect("confirms");
        }
        (job.progress().clone(), rows)
    }

    fn text(&self, key: &str, attribute: &str) -> Option<String> {
        let reader = self.store.reader().expect("reads");
        let row = reader.row_of_key(key).expect("reads")?;
        let id = self.store.schema().by_name(attribute)?.id;
        let record = reader.record(row).expect("reads")?;
        Some(match record.get(id)? {
            Value::Text(text) => text.to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Time(time) => time.to_string(),
            Value::List(list) => list.iter().collect::<Vec<_>>().join("+"),
        })
    }

    fn rejected_lines(&self) -> Vec<(u64, String, String)> {
        let mut reader = csv::Reader::from_path(self.rejected()).expect("opens");
        let rows = reader.records().map(|r| r.expect("a CSV row"));
        rows.map(|r| (r[0].parse().expect("a line"), r[1].to_owned(), r[2].to_owned())).collect()
    }
}

fn spec() -> ImportSpec {
    ImportSpec { import: ImportId(1), now: Timestamp(1_000), ..ImportSpec::default() }
}

fn dry(spec: &ImportSpec, bytes: &[u8]) -> Result<DryRun, ImportError> {
    dry_run(&Schema::built_in(), spec, std::io::Cursor::new(bytes))
}

#[test]
fn a_file_becomes_contacts_with_typed_and_indexed_attributes() {
    let place = Place::new();
    let text = "key;E-Mail;Phone;Country;Age;Last Login;Tags;Note\n\
        a;Ann@EXAMPLE.test;+33 6 12 34 56 78;FR;31;2026-01-02;vip|new;\"hello;\nworld\"\n\
        b;;;DE;;2026-01-03T10:00:00Z;;\n";
    let (progress, rows) = place.import(spec(), text.as_bytes());
    assert_eq!(
        (progress.rows, progress.accepted, progress.created, progress.finished),
        (2, 2, 2, true),
        "{progress:?}"
    );
    assert_eq!(rows, RoaringBitmap::from_iter([0, 1]), "rows");
    for (key, attribute, want) in [
        ("a", "email", "Ann@example.test"),
        ("a", "email_domain", "example.test"),
        ("a", "phone", "+33612345678"),
        ("a", "age", "31"),
        ("a", "last_login", "2026-01-02T00:00:00Z"),
        ("a", "tags", "vip+new"),
        ("a", "note", "hello;\nworld"),
        ("a", "active", "true"),
        ("b", "country", "DE"),
        ("b", "created", "1970-01-01T00:00:01Z"),
    ] {
        assert_eq!(place.text(key, attribute).as_deref(), Some(want), "{key} {attribute}");
    }
    assert_eq!(place.text("b", "age"), None, "an empty cell is no value");
    let (reader, schema) = (place.store.reader().expect("reads"), place.store.schema());
    let id = |name: &str| schema.by_name(name).expect("added").id;
    assert_eq!(*reader.value(id("tags"), "vip").expect("value"), RoaringBitmap::from_iter([0]), "a list is indexed");
    assert_eq!(*reader.value(id("country"), "DE").expect("value"), RoaringBitmap::from_iter([1]), "a text is indexed");
    assert_eq!(*reader.reachable(Channel::Email).expect("reachable"), RoaringBitmap::from_iter([0]), "reachable");
    let status = reader.import(ImportId(1)).expect("reads").expect("is kept");
    assert_eq!(status.progress, progress, "the progress is kept");
    assert!(reader.unconfirmed(ImportId(1)).expect("reads").is_none(), "confirmed");
    assert!(reader.rows_seen(ImportId(1)).expect("reads").is_empty(), "what was seen is dropped");
}

#[test]
fn rows_that_cannot_be_taken_are_told_with_line_column_and_reason() {
    let place = Place::new();
    place.store.add_attribute("age", AttributeType::Number, None).expect("a new attribute");
    let text = b"key,email,age,note\n\
        ok,a@x.test,1,x\n\
        bad,nobody,1,x\n\
        ,b@x.test,1,x\n\
        age,c@x.test,old,x\n\
        short,d@x.test\n\
        nul,e@x.test,1,x\0y\n\
        utf,f@x.test,1,\xc3\xa9\xff\n\
        =cmd,-nobody,1,x\n\
        last,\"g@x.test,1,x\n\
        fine,h@x.test,2,x\n";
    let (progress, _) = place.import(spec(), text);
    assert_eq!((progress.accepted, progress.rejected, progress.rows), (2, 8, 10), "{progress:?}");
    let rejected = place.rejected_lines();
    let want = [(3, "email"), (4, "key"), (5, "age"), (6, ""), (7, ""), (8, "note"), (9, "email"), (10, "")];
    let got: Vec<(u64, &str)> = rejected.iter().map(|r| (r.0, &*r.1)).collect();
    assert_eq!(got, want, "{rejected:?}");
    assert!(rejected[0].2.contains("no @"), "{rejected:?}");
    assert_eq!(rejected[3].2, "the row has 2 columns where the header has 4", "ragged");
    assert_eq!(rejected[7].2, "a quote is opened and not closed", "lone quote");
    let file = std::fs::read_to_string(place.rejected()).expect("reads");
    assert!(file.contains("\"'=cmd,-nobody,1,x"), "no spreadsheet takes a record for a formula: {file}");
}

#[test]
fn files_that_are_none_are_refused_with_the_way_out() {
    let place = Place::new();
    let wide = (0..10_000).map(|i| format!("c{i}")).collect::<Vec<_>>().join(",") + "\n";
    let cases: [(&str, &[u8], &str); 14] = [
        ("empty", b"", "the file is empty"),
        ("blank", b"\n\r\n", "the file is empty"),
        ("header only", b"key,email\n", "no rows"),
        ("missing key", b"id,email\n1,a@b.de\n", "[\"id\", \"email\"]"),
        ("twice", b"key,email,email\n1,a@b.de,\n", "names \"email\" twice"),
        ("same target", b"key,email,E-Mail\n1,a@b.de,\n", "map one of them"),
        ("wide", wide.as_bytes(), "more than 1000 columns"),
        ("open quote", b"key,\"email\n1,a\n", "a quote is opened"),
        ("binary", b"key,\0email\n1,a\n", "NUL bytes"),
        ("created", b"key,created\n1,2020-01-01\n", "keeps itself"),
        ("nameless", b"key,***\n1,a\n", "no valid attribute name"),
        ("mixed header", b"key,n\xff\xc3\xa9\n1,a\n", "not valid UTF-8"),
        ("long header", &[b'x'; 3_000_000], "longer than"),
        ("key mapped away", b"key,id\n1,2\n", "keeps itself"),
    ];
    for (name, bytes, want) in cases {
        let mut spec = spec();
        if name == "key mapped away" {
            spec.mapping.insert("id".to_owned(), "key".to_owned());
        }
        match dry(&spec, bytes) {
            Err(error) => assert!(error.to_string().contains(want), "{name}: {error}"),
            Ok(found) => panic!("{name} must be refused: {found:?}"),
        }
        assert!(place.start(spec, bytes).is_err(), "{name}: no import starts");
    }
    assert_eq!(place.store.reader().expect("reads").imports().expect("reads").len(), 0, "nothing is left of them");
    assert_eq!(*place.store.schema(), Schema::built_in(), "no attribute was added");
    let missing = ImportJob::start(&place.store, spec(), Path::new("/nowhere/file.csv"), &place.rejected());
    assert!(matches!(missing, Err(ImportError::File { what: "opened", .. })), "file not found");
    let refuse = ImportSpec { new_columns: NewColumns::Refuse, ..spec() };
    assert!(matches!(dry(&refuse, b"key,x\n1,2\n"), Err(ImportError::NewColumn { .. })), "new column");
    let delimiter = ImportSpec { delimiter: Some('"'), ..spec() };
    assert!(matches!(dry(&delimiter, b"key\n1\n"), Err(ImportError::BadDelimiter { .. })), "delimiter");
    let country = ImportSpec { default_country: Some("XX".to_owned()), ..spec() };
    assert!(matches!(dry(&country, b"key\n1\n"), Err(ImportError::UnknownCountry { .. })), "country");
}

#[test]
fn a_dry_run_shows_what_would_be_and_writes_nothing() {
    let rows = (0..200).map(|i| format!("{i},{i},word{i},FR,0{i},true,2026-01-01,x|y\n")).collect::<String>();
    let found = dry(&spec(), format!("id,n,free,country,zip,flag,day,tags\n{rows}").as_bytes());
    assert!(matches!(found, Err(ImportError::MissingKeyColumn { .. })), "key");
    let spec = ImportSpec { key_column: "id".to_owned(), ..spec() };
    let found = dry(&spec, format!("id,n,free,country,zip,flag,day,tags\n{rows}x,y\n").as_bytes()).expect("reads");
    assert_eq!(
        (found.rows, found.acceptable, found.rejected, found.samples.len()),
        (201, 200, 1, 1),
        "{:?}",
        found.samples
    );
    assert_eq!(found.samples[0].line, 202, "line");
    let told: BTreeMap<&str, _> = found.plan.columns.iter().map(|c| (&*c.name, (c.kind, c.index, c.is_new))).collect();
    assert_eq!(told["id"], (None, None, false), "the key column alone");
    for (name, kind, index) in [
        ("n", AttributeType::Number, IndexKind::BitSliced),
        ("free", AttributeType::Text, IndexKind::None),
        ("country", AttributeType::Text, IndexKind::Values),
        ("zip", AttributeType::Text, IndexKind::None),
        ("flag", AttributeType::Boolean, IndexKind::Values),
        ("day", AttributeType::DateTime, IndexKind::BitSliced),
        ("tags", AttributeType::List, IndexKind::Values),
    ] {
        assert_eq!(told[name], (Some(kind), Some(index), true), "{name}");
    }
}

#[test]
fn encodings_and_delimiters_give_the_same_contacts() {
    let text = "key\tname\tcity\na\tné\tKöln\nb\tÉve\tNîmes\n";
    let utf16 = |little: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|u| if little { u.to_le_bytes() } else { u.to_be_bytes() }).collect()
    };
    let latin1: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
    for (name, bytes) in [
        ("UTF-8", text.as_bytes().to_vec()),
        ("UTF-8 with mark", format!("\u{feff}{text}").into_bytes()),
        ("UTF-16LE", utf16(true)),
        ("UTF-16BE", utf16(false)),
        ("Latin-1", latin1),
        ("semicolons", text.replace('\t', ";").into_bytes()),
    ] {
        let place = Place::new();
        let (progress, _) = place.import(spec(), &bytes);
        assert_eq!(progress.accepted, 2, "{name}: {progress:?}");
        assert_eq!(place.text("b", "city").as_deref(), Some("Nîmes"), "{name}");
    }
}

#[test]
fn duplicates_empty_cells_and_unsubscribed_follow_the_spec() {
    let text = b"key,name,city,out\na,Ann,Bonn,no\nb,Bob,Kiel,yes\na,Anna,,yes\na,,,no\n";
    for (duplicates, empty_cells, name, city) in [
        (Duplicates::Newest, EmptyCells::Keep, Some("Anna"), Some("Bonn")),
        (Duplicates::Newest, EmptyCells::Clear, None, None),
        (Duplicates::Oldest, EmptyCells::Keep, Some("Ann"), Some("Bonn")),
    ] {
        let place = Place::new();
        let spec = ImportSpec { duplicates, empty_cells, unsubscribed_column: Some("out".to_owned()), ..spec() };
        let mut job = place.start(spec.clone(), text).expect("starts");
        let done = job.next_chunk().expect("imports").expect("one chunk");
        assert_eq!((done.progress.accepted, done.progress.merged, done.progress.rows), (2, 2, 4), "{duplicates:?}");
        assert_eq!(done.unsubscribed, RoaringBitmap::from_iter([0, 1]), "one row that opts out is enough");
        assert_eq!(
            (place.text("a", "name").as_deref(), place.text("a", "city").as_deref()),
            (name, city),
            "{duplicates:?} {empty_cells:?}"
        );
        assert!(matches!(job.next_chunk(), Err(ImportError::Unconfirmed { chunk: 1 })), "not confirmed");
        job.confirm_chunk(1, Vec::new()).expect("confirms");
        assert_eq!(job.next_chunk().expect("imports"), None, "the end");
        drop(job);
        let again =
            ImportSpec { import: ImportId(2), duplicates: Duplicates::Newest, empty_cells: EmptyCells::Keep, ..spec };
        let (progress, _) = place.import(again, b"key,name,out\nb,Bob,no\nc,Cy,no\nb,Bobby,no\n");
        assert_eq!(
            (progress.created, progress.updated, progress.unchanged, progress.merged),
            (1, 1, 0, 1),
            "upsert: {progress:?}"
        );
        assert_eq!(place.text("b", "name").as_deref(), Some("Bobby"), "updated");
        assert_eq!(place.text("b", "city").as_deref(), Some("Kiel"), "what the file does not have stays");
    }
}

#[test]
fn a_key_column_that_is_an_address_gives_normalised_keys() {
    let place = Place::new();
    let spec = ImportSpec { key_column: "email".to_owned(), ..spec() };
    let (progress, _) = place.import(spec, b"email,x\nAnn@X.test,1\nAnn@x.TEST,2\nnobody,3\n");
    assert_eq!((progress.accepted, progress.merged, progress.rejected), (1, 1, 1), "{progress:?}");
    assert_eq!(place.text("Ann@x.test", "email").as_deref(), Some("Ann@x.test"), "key and address");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_bytes_make_an_import_panic(bytes in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        "(key[,;\t](email|n\u{e9}|\"x\ny\")\n)?([a-z0-9,;\"\n\r@. ]{0,40}\n){0,6}".prop_map(String::into_bytes),
    ]) {
        crate::contacts::csv_import::fuzz_csv(&bytes);
    }
}

#[test]
fn faults_have_words() {
    assert_eq!(
        Fault::TooManyColumns.to_string(),
        format!("the record has more than {} columns", limits::CSV_COLUMNS_MAX),
        "words"
    );
}

#[test]
fn a_stop_leaves_the_chunk_that_is_read_and_a_later_job_takes_all() {
    let place = Place::new();
    let text: String = std::iter::once("key\n".to_owned()).chain((0..2_000).map(|i| format!("c{i:05}\n"))).collect();
    let mut job = place.start(spec(), text.as_bytes()).expect("starts");
    let stopped = job.next_chunk_unless(&AtomicBool::new(true));
    assert!(matches!(stopped, Err(ImportError::Stopped)), "it stops: {stopped:?}");
    drop(job);
    assert_eq!(place.store.reader().expect("reads").contacts().expect("reads"), 0, "nothing of the chunk is there");

    let mut job = ImportJob::resume(&place.store, ImportId(1)).expect("resumes");
    while let Some(done) = job.next_chunk().expect("imports") {
        job.confirm_chunk(done.chunk, Vec::new()).expect("confirms");
    }
    assert_eq!(job.progress().created, 2_000, "all rows are taken in the end");

    // The parser itself, amid a chunk: no later row is read.
    let stop = Arc::new(AtomicBool::new(false));
    let (plan, schema) =
        Plan::make(&Schema::built_in(), &spec(), &mut std::io::Cursor::new(text.as_bytes())).expect("a plan");
    let file = std::io::Cursor::new(text.as_bytes());
    let parser = ChunkParser::new(file, &plan, &spec(), &schema, plan.start()).expect("a parser");
    let mut parser = parser.for_store([0; 32], Arc::clone(&stop));
    stop.store(true, Ordering::Release);
    assert!(matches!(parser.next_chunk(0), Err(ImportError::Stopped)), "the parser looks at the flag");
}

#[test]
fn types_and_a_country_that_cannot_be_are_told_before_anything_is_imported() {
    let place = Place::new();
    let text = b"key,email,zip,mobile\n1,a@x.org,01234,\n";
    let typed = |name: &str, kind| ImportSpec {
        types: BTreeMap::from([(name.to_owned(), NewAttribute { kind, index: None })]),
        ..spec()
    };
    let unused = place.start(typed("nosuch", AttributeType::Text), text).err();
    assert!(matches!(&unused, Some(ImportError::UnusedType { name, .. }) if name == "nosuch"), "{unused:?}");
    let other = place.start(typed("email", AttributeType::Number), text).err().map(|e| e.to_string());
    let other = other.unwrap_or_default();
    assert!(other.contains("\"email\"") && other.contains("number") && other.contains("text"), "{other}");
    let country = place.start(ImportSpec { default_country: Some("XX".to_owned()), ..spec() }, text).err();
    assert!(matches!(&country, Some(ImportError::UnknownCountry { code }) if code == "XX"), "{country:?}");
    let fine = ImportSpec { default_country: Some("fr".to_owned()), ..typed("zip", AttributeType::Text) };
    assert_eq!(place.import(fine, text).0.created, 1, "a type for a column of the file");
    let again = ImportSpec { import: ImportId(2), ..typed("mobile", AttributeType::Text) };
    assert_eq!(place.import(again, text).0.accepted, 1, "the type that the column's attribute has");
}
