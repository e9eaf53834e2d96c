//! Bad samples: each rule must find its breach, and leave good code alone.

use super::check::{self, FILE_LINES_MAX, FUNCTION_LINES_MAX, Source};
use super::imports;

fn source(name: &str, text: &str) -> Source {
    Source::parse(name, text).expect("the sample parses")
}

/// The rules that a file breaks, with their lines.
fn broken(name: &str, text: &str) -> Vec<(&'static str, usize)> {
    check::all(&[source(name, text)]).iter().map(|f| (f.rule, f.line)).collect()
}

fn import_findings(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> = files.iter().map(|(name, text)| source(name, text)).collect();
    imports::all(&sources).iter().map(|f| format!("{}:{}", f.file, f.line)).collect()
}

#[test]
fn good_code_has_no_findings() {
    let text = "//! Doc.\nuse crate::ids::RunId;\npub fn f(_: RunId) {}\n#[cfg(test)]\nmod tests { #[test] fn t() { crate::cli::x(); } }\n";
    assert_eq!(broken("src/ledger/state.rs", text), [], "nothing to find");
    assert_eq!(import_findings(&[("src/ledger/state.rs", text)]), [] as [String; 0], "tests may import anything");
}

#[test]
fn a_file_without_documentation_is_found() {
    assert_eq!(broken("src/flow/x.rs", "// a plain comment\nfn f() {}\n"), [("module documentation", 1)]);
}

#[test]
fn a_long_file_is_found_and_its_tests_do_not_count() {
    let filler = "const _: () = ();\n";
    let long = format!("//! Doc.\n{}", filler.repeat(FILE_LINES_MAX));
    assert_eq!(broken("src/flow/x.rs", &long), [("length of a file", 1)], "one line too many");
    let tested = format!("//! Doc.\n{}#[cfg(test)]\nmod tests {{\n{}}}\n", filler.repeat(400), filler.repeat(400));
    assert_eq!(broken("src/flow/x.rs", &tested), [], "400 lines and 400 of tests");
}

#[test]
fn a_long_function_is_found_wherever_it_stands() {
    let body = "    f();\n".repeat(FUNCTION_LINES_MAX - 1);
    let free = format!("//! Doc.\nfn f() {{\n{body}}}\n");
    assert_eq!(broken("src/flow/x.rs", &free), [("length of a function", 2)], "71 lines");
    let method = format!("//! Doc.\nstruct S;\nimpl S {{\nfn g() {{\n{body}}}\n}}\n");
    assert_eq!(broken("src/flow/x.rs", &method), [("length of a function", 4)], "a method");
    let short =
        format!("//! Doc.\n/// Long\n/// words.\nfn f() {{\n{}}}\n", "    f();\n".repeat(FUNCTION_LINES_MAX - 2));
    assert_eq!(broken("src/flow/x.rs", &short), [], "70 lines, documentation not counted");
}

#[test]
fn leftovers_are_found() {
    for macro_name in ["todo", "unimplemented", "dbg"] {
        let text = format!("//! Doc.\nfn f() {{ {macro_name}!() }}\n");
        assert_eq!(broken("src/flow/x.rs", &text), [("leftover", 2)], "{macro_name}!");
    }
    for word in [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO")] {
        assert_eq!(broken("src/flow/x.rs", &format!("//! Doc.\n// {word}: later\n")), [("leftover", 2)], "{word}");
    }
}

#[test]
fn unsafe_code_is_found_outside_its_files_and_inside_macros() {
    let block = "//! Doc.\nfn f() { unsafe { g() } }\n";
    assert_eq!(broken("src/flow/x.rs", block), [("unsafe code", 2)], "a block");
    assert_eq!(
        broken("src/flow/x.rs", "//! Doc.\nfn f() { m!(unsafe { g() }); }\n"),
        [("unsafe code", 2)],
        "in a macro"
    );
    assert_eq!(broken("src/journal/marks.rs", block), [], "the mark file may");
    assert_eq!(
        broken("src/flow/x.rs", "//! Doc.\n//! Not unsafe.\nconst A: &str = \"unsafe\";\n"),
        [],
        "a word is not code"
    );
}

#[test]
fn test_files_of_their_own_are_left_out() {
    let parent = source("src/flow/step.rs", "//! Doc.\n#[cfg(test)]\n#[path = \"step_tests.rs\"]\nmod tests;\n");
    let long = format!("//! Doc.\n{}", "const _: () = ();\n".repeat(FILE_LINES_MAX));
    let findings = check::all(&[parent, source("src/flow/step_tests.rs", &long)]);
    assert!(findings.is_empty(), "cases may be as long as they like: {findings:?}");
}

#[test]
fn a_test_that_is_switched_off_is_found() {
    let off = "#[test]\n#[ignore = \"slow\"]\nfn t() {}\n";
    assert_eq!(check::ignored_tests(&source("tests/x.rs", off)).len(), 1, "ignore");
    let conditional = "#[cfg_attr(debug_assertions, ignore)]\n#[test]\nfn t() {}\n";
    assert_eq!(check::ignored_tests(&source("tests/x.rs", conditional)).len(), 1, "ignore by condition");
    assert!(
        check::ignored_tests(&source("tests/x.rs", "#[test]\nfn ignore() {}\n")).is_empty(),
        "a name is no attribute"
    );
}

#[test]
fn imports_upwards_are_found_in_every_form() {
    let forms = [
        ("use", "//! D.\nuse crate::ledger::state::State;\n"),
        ("group", "//! D.\nuse crate::{ids::RunId, engine::Engine};\n"),
        ("written out", "//! D.\nfn f() { crate::ledger::apply(); }\n"),
        ("type", "//! D.\nfn f(_: &crate::actors::Handle) {}\n"),
        ("super", "//! D.\nuse super::super::ledger::State;\n"),
        ("macro", "//! D.\nfn f() { vec![crate::cli::RUN]; }\n"),
    ];
    for (form, text) in forms {
        assert_eq!(import_findings(&[("src/segments/parse.rs", text)]), ["src/segments/parse.rs:2"], "{form}");
    }
    let down = "//! D.\nuse crate::contacts::sets::AttributeSets;\nuse super::eval::Eval;\nuse super::super::limits;\n";
    assert_eq!(
        import_findings(&[("src/segments/parse.rs", down)]),
        [] as [String; 0],
        "downwards and sideways is fine"
    );
}

#[test]
fn narrow_modules_get_less_than_their_place() {
    let ledger = "//! D.\nuse crate::ledger::Fact;\n";
    assert_eq!(
        import_findings(&[("src/journal/frame.rs", ledger)]),
        ["src/journal/frame.rs:2"],
        "the journal knows no facts"
    );
    let channels = "//! D.\nuse crate::ledger::Fact;\n";
    assert_eq!(import_findings(&[("src/channels/null.rs", channels)]), [] as [String; 0], "others follow the order");
}

#[test]
fn an_actor_that_imports_another_is_found() {
    let actor = |uses: &str| format!("//! D.\n{uses}\nimpl Actor for A {{}}\n");
    let campaign = actor("use super::committer::Submit;");
    let committer = actor("use super::messages::Submit;");
    let files = [
        ("src/actors/campaign.rs", campaign.as_str()),
        ("src/actors/committer.rs", committer.as_str()),
        ("src/actors/messages.rs", "//! D.\npub struct Submit;\n"),
    ];
    assert_eq!(import_findings(&files), ["src/actors/campaign.rs:2"], "messages are shared, actors are not");
}

#[test]
fn a_module_without_a_place_is_found() {
    assert_eq!(import_findings(&[("src/helpers.rs", "//! D.\n")]), ["src/helpers.rs:1"], "a new module needs a place");
}

#[test]
fn a_folder_that_the_map_does_not_name_is_found() {
    let folders = ["contacts".to_owned(), "flow".to_owned()];
    assert_eq!(check::unnamed("contacts/ and more", &folders).len(), 1, "flow is missing");
}
