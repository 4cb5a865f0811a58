//! The view without a terminal: keys go in, lines come out.

use std::sync::Arc;

use conex_inventory::{ImageReport, LayerFacts, Limits, Tree, instructions, scan_layer};
use conex_layer::{EntryHeader, TarWriter};
use conex_oci::{DiffId, Digest, History, ImageConfig, Platform};
use insta::assert_snapshot;

use super::super::Analysis;
use super::super::source::{Origin, subject};
use super::draw::lines;
use super::keys::{Key, Keys};
use super::model::{Effect, Model};

/// An image of layers with files of these sizes.
fn analysis(layers: &[(&str, &[(&str, usize)])]) -> Analysis {
    let mut config = ImageConfig::scratch(Platform::new("linux", "amd64", ""));
    let (mut reports, mut origins) = (Vec::new(), Vec::new());
    for (instruction, files) in layers {
        let mut tar = TarWriter::new(Vec::new());
        for (path, size) in *files {
            let header = EntryHeader::file(*path, *size as u64);
            tar.append(&header, &vec![*size as u8; *size]).unwrap();
        }
        let tar = tar.finish().unwrap();
        config.rootfs.diff_ids.push(DiffId(Digest::of(&tar)));
        let created_by = (*instruction).to_owned();
        config.history.push(History { created_by, ..History::default() });
        let report = Arc::new(scan_layer(&mut tar.as_slice(), tempfile::tempfile).unwrap().report);
        reports.push(report.clone());
        origins.push((None, Origin::Gone(report)));
    }
    let facts = instructions(&config)
        .into_iter()
        .zip(&config.rootfs.diff_ids)
        .map(|(created_by, diff_id)| {
            let diff_id = diff_id.clone();
            LayerFacts { diff_id, created_by, compressed_size: None, source: None }
        })
        .collect();
    let tree = Tree::of(&reports).unwrap();
    let subject = subject("app", "test", b"{}", config, origins).unwrap();
    Analysis { subject, tree, facts }
}

const LAYERS: &[(&str, &[(&str, usize)])] = &[
    ("RUN install", &[("etc/config", 700), ("usr/bin/tool", 5000), ("var/cache/list", 3000)]),
    ("RUN rm -rf /var/cache", &[("var/.wh.cache", 0)]),
    ("COPY config /etc/config", &[("etc/config", 800), ("srv/new", 100)]),
];

/// What is shown after some keys, as they come from a terminal.
fn shown(keys: &str) -> String {
    let analysis = analysis(LAYERS);
    let report = ImageReport::of(&analysis.tree, &analysis.facts, Limits { rows: 10 });
    let mut model = Model::new(&analysis, &report).unwrap();
    let mut reader = Keys::default();
    // As when it was drawn once before the first key.
    lines(&mut model, 90, 20);
    for key in reader.take(keys.as_bytes()) {
        assert_eq!(model.press(key).unwrap(), Effect::None, "{key:?}");
        lines(&mut model, 90, 20);
    }
    let lines = lines(&mut model, 90, 20);
    assert!(lines.len() <= 20);
    let text = |line: &super::draw::Line| -> String {
        line.iter().map(|span| span.text.as_str()).collect()
    };
    let all: Vec<String> = lines.iter().map(text).collect();
    assert!(all.iter().all(|line| conex_term::width(line) <= 90), "{all:#?}");
    all.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn the_first_layer_is_shown_first() {
    assert_snapshot!(shown(""), @r###"
    ● Layers ───────────────────────────││ Files, changes of layer 0 ─────────────────────────
      0    8.7kB  RUN install           │Mode           Size   Wasted  Path
      1       0B  RUN rm -rf /var/cache │drwxr-xr-x     700B     700B  ├── +etc
      2     900B  COPY config /etc/confi│-rw-r--r--     700B     700B  │   └── +config
    │ Layer ────────────────────────────│drwxr-xr-x      5kB           ├── +usr
    digest   sha256:782e15c7f70033c68e75│drwxr-xr-x      5kB           │   └── +bin
    unpacked 8.7kB, packed never        │-rw-r--r--      5kB           │       └── +tool
    files    +3 ~0 -0                   │drwxr-xr-x      3kB      3kB  └── +var
    wasted   3.7kB                      │drwxr-xr-x      3kB      3kB      └── +cache
    RUN install                         │-rw-r--r--      3kB      3kB          └── +list
    │ Image ────────────────────────────│
    unpacked   9.6kB                    │
    wasted     3.7kB                    │
    efficiency 61.5 %                   │
          3kB /var/cache                │
         700B /etc/config               │
                                        │
                                        │
                                        │
    q leave  tab side  ? keys  ^f search  ^a added●  ^r removed●  ^m modified●  ^u unmodified●
    "###);
}

#[test]
fn files_of_a_layer_are_marked_and_filtered() {
    // The second layer, the files, nothing that is unmodified.
    assert_snapshot!(shown("j\t\x15"), @r###"
    │ Layers ───────────────────────────│● Files, changes of layer 1 ─────────────────────────
      0    8.7kB  RUN install           │Mode           Size   Wasted  Path
      1       0B  RUN rm -rf /var/cache │drwxr-xr-x       0B      3kB  └── ~var
      2     900B  COPY config /etc/confi│drwxr-xr-x       0B      3kB      └── -cache
    │ Layer ────────────────────────────│-rw-r--r--      3kB      3kB          └── -list
    digest   sha256:2be7513362d61d78f896│
    unpacked 0B, packed never           │
    files    +0 ~0 -1                   │
    wasted   0B                         │
    RUN rm -rf /var/cache               │
    │ Image ────────────────────────────│
    unpacked   9.6kB                    │
    wasted     3.7kB                    │
    efficiency 61.5 %                   │
          3kB /var/cache                │
         700B /etc/config               │
                                        │
                                        │
                                        │
    q leave  tab side  ? keys  ^f search  ^a added●  ^r removed●  ^m modified●  ^u unmodified
    "###);
}

#[test]
fn search_shows_what_fits_and_the_folders_above() {
    let shown = shown("jj\t/CONF\r");
    assert!(shown.contains("config") && !shown.contains("tool"), "{shown}");
    assert!(shown.contains("\"CONF\""), "{shown}");
}

#[test]
fn search_takes_regular_expressions_and_what_is_none_as_it_stands() {
    for (search, fits, fits_not) in [
        ("^/(etc|srv)/", &["config", "new"][..], &["tool", "list"][..]),
        ("t.ol$", &["tool"], &["config"]),
        ("(conf", &[], &["config", "tool"]),
        ("[", &[], &["config"]),
        ("O{2}L", &["tool"], &["config"]),
    ] {
        let shown = shown(&format!("jj\t/{search}"));
        // The left side names paths too.
        let right: String =
            shown.lines().filter_map(|line| line.split_once('│')).map(|(_, right)| right).collect();
        assert!(
            fits.iter().all(|name| right.contains(&format!("+{name}"))
                || right.contains(&format!("~{name}"))
                || right.contains(&format!(" {name}"))),
            "{shown}"
        );
        assert!(!fits_not.iter().any(|name| right.contains(name)), "{search}: {shown}");
        let is_none = shown.contains("search, not as an expression");
        assert_eq!(is_none, regex_lite::Regex::new(search).is_err(), "{search}");
    }
}

#[test]
fn a_deep_tree_takes_no_more_room_than_its_paths() {
    let deep = format!("{}file", "d/".repeat(5000));
    let files = [(deep.as_str(), 1)];
    let analysis = analysis(&[("RUN deep", &files)]);
    let report = ImageReport::of(&analysis.tree, &analysis.facts, Limits { rows: 10 });
    let mut model = Model::new(&analysis, &report).unwrap();
    lines(&mut model, 90, 20);
    assert_eq!(model.rows.len(), 5001);
    assert!(model.rows.iter().map(|row| row.lead.len()).sum::<usize>() < 5001 * 700);
}

#[test]
fn wasted_files_alone_and_closed_folders() {
    let wasted = shown("\x1b[F\tw");
    assert!(wasted.contains("config") && !wasted.contains("tool"), "{wasted}");
    let closed = shown("\x1b[F\t\x00");
    assert!(closed.contains("usr/ …") && !closed.contains("tool"), "{closed}");
}

#[test]
fn keys_ask_for_files_and_for_the_end() {
    let analysis = analysis(LAYERS);
    let report = ImageReport::of(&analysis.tree, &analysis.facts, Limits { rows: 10 });
    let mut model = Model::new(&analysis, &report).unwrap();
    model.press(Key::Tab).unwrap();
    let row =
        model.rows.iter().position(|row| analysis.tree.path_text(row.id) == "/etc/config").unwrap();
    model.row = row;
    let id = model.rows[row].id;
    assert_eq!(model.press(Key::Ctrl('e')).unwrap(), Effect::Extract(id));
    // The file is the first layer's there; `i` goes to the one that it comes from at the end.
    model.press(Key::Tab).unwrap();
    model.press(Key::End).unwrap();
    model.press(Key::Tab).unwrap();
    model.row = model.rows.iter().position(|row| row.id == id).unwrap();
    model.press(Key::Char('i')).unwrap();
    assert_eq!(model.layer, 2);
    assert_eq!(model.press(Key::Char('q')).unwrap(), Effect::Quit);
    assert_eq!(model.press(Key::Ctrl('c')).unwrap(), Effect::Quit);
}

#[test]
fn a_terminal_of_any_size_is_enough() {
    let analysis = analysis(LAYERS);
    let report = ImageReport::of(&analysis.tree, &analysis.facts, Limits { rows: 10 });
    let mut model = Model::new(&analysis, &report).unwrap();
    for columns in [0, 1, 39, 40, 41, 80, 300] {
        for rows in [0, 1, 7, 8, 9, 24, 100] {
            let drawn = lines(&mut model, columns, rows);
            let has_name = drawn.iter().flatten().any(|span| span.text.contains("usr"));
            assert!(has_name || columns < 40 || rows < 8, "{columns} × {rows}");
            assert!(drawn.len() <= rows.max(1), "{columns} × {rows}");
            for line in &drawn {
                let cells: usize = line.iter().map(|span| conex_term::width(&span.text)).sum();
                assert!(cells <= columns, "{columns} × {rows}: {line:?}");
            }
        }
    }
}
