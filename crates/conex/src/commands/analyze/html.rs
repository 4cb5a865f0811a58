//! One page that needs nothing from elsewhere: the report, and a treemap of the files.

use conex_inventory::{Comparison, ImageReport, ROOT, Tree};
use serde_json::{Value, json};

use super::text::made_by;
use super::{Analysis, document};
use crate::error::Result;

/// Most boxes of the treemap: a browser draws that many in a moment, and nobody sees smaller ones.
const BOXES_MAX: usize = 20_000;

/// The page around the data.
const PAGE: &str = include_str!("report.html");

/// The page of a comparison.
const COMPARISON: &str = include_str!("comparison.html");

/// Writes the page of an image.
pub fn report(analysis: &Analysis, report: &ImageReport) -> Result<String> {
    let mut data = document(&analysis.subject, report, None)?;
    if let Some(layers) = data["layers"].as_array_mut() {
        for (layer, facts) in layers.iter_mut().zip(&analysis.facts) {
            layer["instruction"] = Value::from(made_by(facts));
        }
    }
    data["tree"] = boxes(&analysis.tree);
    Ok(filled(PAGE, &analysis.subject.name, &data))
}

/// Writes the page of a comparison.
pub fn comparison(
    names: (&str, &str),
    comparison: &Comparison,
    (summary, layers): (&Value, &Value),
) -> String {
    let data = json!({
        "before": names.0, "after": names.1, "comparison": comparison, "summary": summary,
        "layers": layers,
    });
    filled(COMPARISON, &format!("{} – {}", names.0, names.1), &data)
}

/// Puts the data into a page, so that nothing in it can end the script or begin an element.
fn filled(page: &str, title: &str, data: &Value) -> String {
    let data = data.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028");
    let title = conex_term::clean(title).replace('&', "&amp;").replace('<', "&lt;");
    // The data last: what stands in it is not looked at again.
    page.replacen("{{title}}", &title, 1).replacen("{{data}}", &data, 1)
}

/// The folders and files that are there at the end, `[name, size, layer, children]`, the largest
/// first; what is too small for a box of its own is one box `…`.
fn boxes(tree: &Tree) -> Value {
    let sizes = tree.sizes();
    let total = sizes.first().copied().unwrap_or(0);
    // A share of the whole below which nothing is drawn, so that the count stays in bounds.
    let mut seen: Vec<u64> = sizes.iter().copied().filter(|size| *size > 0).collect();
    seen.sort_unstable_by_key(|size| std::cmp::Reverse(*size));
    let least = seen.get(BOXES_MAX).copied().unwrap_or(0).max(total / 100_000).max(1);
    folder(tree, &sizes, least, ROOT, 0)
}

/// Deepest folder that is drawn: what is below it is one box. Real images have thirty.
const DEPTH_MAX: usize = 100;

fn folder(tree: &Tree, sizes: &[u64], least: u64, id: u32, depth: usize) -> Value {
    let entry = tree.entry(id);
    let name = String::from_utf8_lossy(entry.name);
    let size = sizes[id as usize];
    if !entry.kind.is_dir() || depth == DEPTH_MAX {
        return json!([name, size, entry.layer]);
    }
    let mut children: Vec<u32> = tree.children(id);
    children.retain(|child| tree.entry(*child).is_there && sizes[*child as usize] > 0);
    children.sort_by_key(|child| std::cmp::Reverse(sizes[*child as usize]));
    let is_shown = |child: &u32| sizes[*child as usize] >= least;
    let shown = children.iter().position(|child| !is_shown(child)).unwrap_or(children.len());
    let rest: u64 = children[shown..].iter().map(|child| sizes[*child as usize]).sum();
    let mut boxes: Vec<Value> = children[..shown]
        .iter()
        .map(|child| folder(tree, sizes, least, *child, depth + 1))
        .collect();
    if rest > 0 {
        let name = format!("… {} more", children.len() - shown);
        boxes.push(json!([name, rest, entry.layer]));
    }
    json!([name, size, entry.layer, boxes])
}
