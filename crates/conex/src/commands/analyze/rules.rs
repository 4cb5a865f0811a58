//! Limits in CI: where they come from, what is said about them, and how the command ends.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use conex_inventory::{
    DIVE_DEFAULTS, DiveReport, Figures, ImageReport, Outcome, Rules, SourceLine, Verdict,
};
use conex_term::Palette;
use serde_json::json;

use crate::error::{CliError, Doing as _, Result};
use crate::settings::variable;

/// Largest file of rules.
const FILE_SIZE_MAX: u64 = 1 << 20;

/// Limits on the command line, in dive's words and ours.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RuleArgs {
    /// Hold the image against limits; on where `CI=true`
    ///
    /// Limits come from the options, then from `.conex.toml` (table `[analyze]`), then from dive's
    /// `.dive-ci`; without any, dive's defaults hold: efficiency 0.9, user-wasted percent 0.1.
    #[arg(long)]
    pub ci: bool,

    /// Read dive's rules from this file, or ours if its name ends with `.toml`
    #[arg(long, value_name = "FILE")]
    pub ci_config: Option<PathBuf>,

    /// Least efficiency, 0 to 1, or `disabled`
    #[arg(long, alias = "lowestEfficiency", value_name = "RATIO")]
    pub lowest_efficiency: Option<String>,

    /// Most bytes wasted (`20MB`), or `disabled`
    #[arg(long, alias = "highestWastedBytes", value_name = "SIZE")]
    pub highest_wasted_bytes: Option<String>,

    /// Most of the bytes above the first layer that are wasted, 0 to 1, or `disabled`
    #[arg(long, alias = "highestUserWastedPercent", value_name = "RATIO")]
    pub highest_user_wasted_percent: Option<String>,

    /// Most bytes of all layers, unpacked
    #[arg(long, value_name = "SIZE")]
    pub largest_image: Option<String>,

    /// Most bytes of one layer, unpacked
    #[arg(long, value_name = "SIZE")]
    pub largest_layer: Option<String>,

    /// Most bytes of all layers as shipped
    #[arg(long, value_name = "SIZE")]
    pub largest_compressed_image: Option<String>,

    /// What to exit with when a limit is broken
    #[arg(long, value_name = "CODE", default_value_t = 3)]
    pub exit_code: u8,
}

impl RuleArgs {
    /// The limits to keep to; none if nobody asked.
    pub fn rules(&self) -> Result<Option<Rules>> {
        let options = [
            ("lowest-efficiency", &self.lowest_efficiency),
            ("highest-wasted-bytes", &self.highest_wasted_bytes),
            ("highest-user-wasted-percent", &self.highest_user_wasted_percent),
            ("largest-image", &self.largest_image),
            ("largest-layer", &self.largest_layer),
            ("largest-compressed-image", &self.largest_compressed_image),
        ];
        let is_set = options.iter().any(|(_, value)| value.is_some());
        let in_ci = variable("CI").is_some_and(|value| value == "true" || value == "1");
        if !self.ci && !in_ci && !is_set && self.ci_config.is_none() {
            return Ok(None);
        }
        let mut rules = self.of_files()?;
        for (key, value) in options {
            if let Some(value) = value {
                rules.set(key, value).map_err(|error| CliError::from(error).with_code(2))?;
            }
        }
        Ok(Some(rules))
    }

    fn of_files(&self) -> Result<Rules> {
        if let Some(path) = &self.ci_config {
            let text = read(path)?.ok_or_else(|| {
                CliError::new(format!("there is no file of rules `{}`", path.display()))
            })?;
            if path.extension().is_some_and(|end| end == "toml") {
                return Ok(Rules::from_toml(&text)?.unwrap_or(DIVE_DEFAULTS));
            }
            return Ok(Rules::from_dive(&text)?);
        }
        if let Some(text) = read(Path::new(".conex.toml"))?
            && let Some(rules) = Rules::from_toml(&text)?
        {
            return Ok(rules);
        }
        match read(Path::new(".dive-ci"))? {
            Some(text) => Ok(Rules::from_dive(&text)?),
            None => Ok(DIVE_DEFAULTS),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    use std::io::Read as _;
    let act = || format!("cannot read `{}`", path.display());
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::because(act(), error)),
    };
    let mut text = String::new();
    file.take(FILE_SIZE_MAX).read_to_string(&mut text).doing(act)?;
    Ok(Some(text))
}

/// Holds an image against limits, by exact figures or by dive's.
pub fn judge(rules: &Rules, report: &ImageReport, dive: Option<&DiveReport>) -> Vec<Outcome> {
    let figures = match dive {
        Some(dive) => Figures {
            efficiency: dive.efficiency_score,
            wasted_bytes: dive.inefficient_bytes,
            user_wasted_percent: dive.user_wasted_percent,
        },
        None => Figures::of(report),
    };
    rules.judge(&figures, report)
}

/// Whether a limit is broken.
pub fn is_broken(outcomes: &[Outcome]) -> bool {
    outcomes.iter().any(|outcome| outcome.verdict == Verdict::Fail)
}

/// The outcomes for a person, in the form that dive's have.
pub fn text(outcomes: &[Outcome], palette: Palette) -> String {
    let mut text = String::from("\nResults:\n");
    let count = |verdict| outcomes.iter().filter(|one| one.verdict == verdict).count();
    for outcome in outcomes {
        let word = match outcome.verdict {
            Verdict::Pass => palette.good("PASS"),
            Verdict::Fail => palette.error("FAIL"),
            Verdict::Skip => palette.dim("SKIP"),
        };
        let _ = writeln!(text, "  {word}: {}: {}", outcome.rule, outcome.message);
    }
    let (passed, failed, skipped) =
        (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Skip));
    let word = if failed > 0 { palette.error("FAIL") } else { palette.good("PASS") };
    let total = outcomes.len();
    let _ = writeln!(
        text,
        "Result: {word} [Total:{total}] [Passed:{passed}] [Failed:{failed}] [Skipped:{skipped}]"
    );
    text
}

fn failures(outcomes: &[Outcome]) -> impl Iterator<Item = &Outcome> {
    outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Fail)
}

/// GitHub's workflow commands: errors for broken limits, warnings for what wastes the most.
pub fn github(name: &str, outcomes: &[Outcome], report: &ImageReport) -> String {
    let escaped = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escaped(text).replace(':', "%3A").replace(',', "%2C");
    let mut text = String::new();
    for outcome in failures(outcomes) {
        let message = escaped(&format!("{}: {}", outcome.rule, outcome.message));
        let _ = writeln!(
            text,
            "::error title={}::{message}",
            property(&format!("conex analyze {name}"))
        );
    }
    for one in &report.suggestions {
        let saves = conex_term::human_size_short(one.saves);
        let message = escaped(&format!("save {saves}: {}", one.text));
        let place = one
            .source
            .as_ref()
            .map(|source| format!("file={},line={},", property(&source.file), source.line));
        let _ = writeln!(
            text,
            "::warning {}title={}::{message}",
            place.unwrap_or_default(),
            property(&format!("layer {} of {name}", one.layer))
        );
    }
    text
}

/// GitLab's code quality report. GitLab takes nothing without a line: what has none stands at the
/// first of the file.
pub fn gitlab(name: &str, outcomes: &[Outcome], report: &ImageReport) -> String {
    let file = report.layers.iter().find_map(|layer| layer.facts.source.as_ref());
    let file = file.map_or("Dockerfile", |source| source.file.as_str());
    let issue = |rule: &str, severity: &str, message: String, source: Option<&SourceLine>| {
        let (file, line) = source.map_or((file, 1), |source| (source.file.as_str(), source.line));
        let print = conex_oci::Digest::of(format!("{name}\n{rule}\n{message}").as_bytes());
        json!({
            "description": message,
            "check_name": rule,
            "fingerprint": print.hex(),
            "severity": severity,
            "location": { "path": file, "lines": { "begin": line } },
        })
    };
    let broken = failures(outcomes).map(|one| {
        issue(one.rule, "major", format!("{name}: {}: {}", one.rule, one.message), None)
    });
    let advice = report.suggestions.iter().map(|one| {
        let saves = conex_term::human_size_short(one.saves);
        let message = format!("{name}: save {saves}: {}", one.text);
        issue("waste", "minor", message, one.source.as_ref())
    });
    let all: Vec<serde_json::Value> = broken.chain(advice).collect();
    format!("{}\n", serde_json::Value::from(all))
}

/// JUnit's XML: one test a rule.
pub fn junit(name: &str, outcomes: &[Outcome]) -> String {
    let failed = failures(outcomes).count();
    let skipped = outcomes.iter().filter(|one| one.verdict == Verdict::Skip).count();
    let total = outcomes.len();
    let name = xml(name);
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        text,
        "<testsuites>\n  <testsuite name=\"conex analyze {name}\" tests=\"{total}\" \
         failures=\"{failed}\" skipped=\"{skipped}\">"
    );
    for outcome in outcomes {
        let message = xml(&outcome.message);
        let _ = write!(text, "    <testcase classname=\"{name}\" name=\"{}\"", outcome.rule);
        let _ = match outcome.verdict {
            Verdict::Pass => writeln!(text, "/>"),
            Verdict::Fail => writeln!(text, "><failure message=\"{message}\"/></testcase>"),
            Verdict::Skip => writeln!(text, "><skipped message=\"{message}\"/></testcase>"),
        };
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

fn xml(text: &str) -> String {
    let mut safe = String::new();
    for char in conex_term::clean(text).chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            char => safe.push(char),
        }
    }
    safe
}
