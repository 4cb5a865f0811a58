//! Limits that an image has to keep to, from `.conex.toml` or from dive's `.dive-ci`.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::image::{ImageReport, ratio};

/// Limits. What is none is not looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// Least part of the stored bytes that is seen at the end, 0 to 1.
    pub lowest_efficiency: Option<f64>,
    /// Most bytes wasted.
    pub highest_wasted_bytes: Option<u64>,
    /// Most of the bytes of all layers but the first that are wasted, 0 to 1.
    pub highest_user_wasted_percent: Option<f64>,
    /// Most bytes of all layers, unpacked.
    pub largest_image: Option<u64>,
    /// Most bytes of one layer, unpacked.
    pub largest_layer: Option<u64>,
    /// Most bytes of all layers as shipped.
    pub largest_compressed_image: Option<u64>,
}

/// The figures that limits are held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Seen by stored.
    pub efficiency: f64,
    /// Bytes wasted.
    pub wasted_bytes: u64,
    /// Wasted by the bytes of all layers but the first.
    pub user_wasted_percent: f64,
}

impl Figures {
    /// The exact ones of a report.
    pub fn of(report: &ImageReport) -> Self {
        // An image of one layer has no bytes of the user's own, and wastes none.
        let user_wasted_percent =
            if report.user_size == 0 { 0.0 } else { ratio(report.wasted_size, report.user_size) };
        Self {
            efficiency: report.efficiency,
            wasted_bytes: report.wasted_size,
            user_wasted_percent,
        }
    }
}

/// How an image stands to a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It keeps to it.
    Pass,
    /// It does not.
    Fail,
    /// Nobody asked.
    Skip,
}

/// What came of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The rule's name, as in the settings.
    pub rule: &'static str,
    /// How the image stands to it.
    pub verdict: Verdict,
    /// The figure and the limit, in words.
    pub message: String,
}

/// The limits that dive has where nothing else is said.
pub const DIVE_DEFAULTS: Rules = Rules {
    lowest_efficiency: Some(0.9),
    highest_wasted_bytes: None,
    highest_user_wasted_percent: Some(0.1),
    largest_image: None,
    largest_layer: None,
    largest_compressed_image: None,
};

impl Rules {
    /// Reads the table `[analyze]` of a `.conex.toml`; none where there is none.
    ///
    /// # Errors
    /// The text is no TOML, or the table has a key or a value that means nothing.
    pub fn from_toml(text: &str) -> Result<Option<Self>> {
        let settings: toml::Table =
            text.parse().map_err(|error| Error::document("`.conex.toml`", error))?;
        let Some(table) = settings.get("analyze") else { return Ok(None) };
        let table = table
            .as_table()
            .ok_or_else(|| Error::rules("`analyze` in `.conex.toml` is not a table"))?;
        let mut rules = Self::default();
        for (key, value) in table {
            let text = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                _ => return Err(Error::rules(format!("`analyze.{key}` is no number and no size"))),
            };
            rules.set(key, &text).map_err(|error| {
                error.with_hint(format!(
                    "the keys of `[analyze]` are {}",
                    KEYS.map(|key| format!("`{}`", key.0)).join(", ")
                ))
            })?;
        }
        Ok(Some(rules))
    }

    /// Reads dive's file of rules. What it does not say has dive's default.
    ///
    /// # Errors
    /// A value means nothing, or the file has a rule that dive does not have.
    pub fn from_dive(text: &str) -> Result<Self> {
        let mut rules = DIVE_DEFAULTS;
        let mut is_in_rules = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.split(" #").next().unwrap_or(line).trim_end();
            let trimmed = line.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') || trimmed == "---" {
                continue;
            }
            let is_top = trimmed.len() == line.len();
            let Some((key, value)) = trimmed.split_once(':') else {
                let message = format!("line {} of the rules is no `name: value`", number + 1);
                return Err(Error::rules(message));
            };
            let value = value.trim().trim_matches(['"', '\'']);
            if is_top {
                is_in_rules = key == "rules";
            } else if is_in_rules {
                rules.set(key.trim().trim_matches(['"', '\'']), value)?;
            }
        }
        Ok(rules)
    }

    /// Sets a limit by its name in dive's or our settings; `disabled` takes it away.
    ///
    /// # Errors
    /// There is no such limit, or the value means nothing.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let known = KEYS.iter().find(|(own, dive)| *own == key || *dive == key);
        let (own, _) = known.ok_or_else(|| Error::rules(format!("there is no rule `{key}`")))?;
        let wrong = |what: &str| Error::rules(format!("`{key}` is `{value}` and has to be {what}"));
        let share = || match value {
            "disabled" => Ok(None),
            _ => {
                let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
                share.map(Some).ok_or_else(|| wrong("between 0 and 1, or `disabled`"))
            }
        };
        let size = || match value {
            "disabled" => Ok(None),
            _ => {
                let size = parse_size(value);
                size.map(Some).ok_or_else(|| wrong("a size such as `20MB`, or `disabled`"))
            }
        };
        match *own {
            "lowest-efficiency" => self.lowest_efficiency = share()?,
            "highest-wasted-bytes" => self.highest_wasted_bytes = size()?,
            "highest-user-wasted-percent" => self.highest_user_wasted_percent = share()?,
            "largest-image" => self.largest_image = size()?,
            "largest-layer" => self.largest_layer = size()?,
            _ => self.largest_compressed_image = size()?,
        }
        Ok(())
    }

    /// Holds an image against the limits.
    pub fn judge(&self, figures: &Figures, report: &ImageReport) -> Vec<Outcome> {
        let layer = report.layers.iter().map(|layer| layer.size).max().unwrap_or(0);
        let share = |rule, limit: Option<f64>, has: f64, fits: fn(f64, f64) -> bool| {
            outcome(rule, limit.map(|limit| (fits(has, limit), format!("{has:.4}, limit {limit}"))))
        };
        let size = |rule, limit: Option<u64>, has: Option<u64>| {
            outcome(
                rule,
                limit.map(|limit| match has {
                    Some(has) => (has <= limit, format!("{has} bytes, limit {limit}")),
                    None => (false, "not known: not all layers were ever packed".to_owned()),
                }),
            )
        };
        vec![
            share("lowest-efficiency", self.lowest_efficiency, figures.efficiency, |has, limit| {
                has >= limit
            }),
            size("highest-wasted-bytes", self.highest_wasted_bytes, Some(figures.wasted_bytes)),
            share(
                "highest-user-wasted-percent",
                self.highest_user_wasted_percent,
                figures.user_wasted_percent,
                |has, limit| has <= limit,
            ),
            size("largest-image", self.largest_image, Some(report.stored_size)),
            size("largest-layer", self.largest_layer, Some(layer)),
            size("largest-compressed-image", self.largest_compressed_image, report.compressed_size),
        ]
    }
}

fn outcome(rule: &'static str, judged: Option<(bool, String)>) -> Outcome {
    match judged {
        Some((true, message)) => Outcome { rule, verdict: Verdict::Pass, message },
        Some((false, message)) => Outcome { rule, verdict: Verdict::Fail, message },
        None => Outcome { rule, verdict: Verdict::Skip, message: "no limit".to_owned() },
    }
}

/// The names of limits: ours, and dive's.
const KEYS: [(&str, &str); 6] = [
    ("lowest-efficiency", "lowestEfficiency"),
    ("highest-wasted-bytes", "highestWastedBytes"),
    ("highest-user-wasted-percent", "highestUserWastedPercent"),
    ("largest-image", "largestImage"),
    ("largest-layer", "largestLayer"),
    ("largest-compressed-image", "largestCompressedImage"),
];

/// Reads a size: `20MB`, `1.5 GiB`, `1000`. A letter alone is decimal, as for dive.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let number: f64 = number.parse().ok()?;
    #[allow(clippy::cast_precision_loss, clippy::cast_sign_loss)] // No sign was taken.
    let size = (number * factor as f64) as u64;
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_dive_reads_them() {
        for (text, size) in [
            ("20MB", Some(20_000_000)),
            ("20 MiB", Some(20 << 20)),
            ("1.5kB", Some(1500)),
            ("1000", Some(1000)),
            ("0", Some(0)),
            ("20XB", None),
            ("MB", None),
            ("-1", None),
            ("99999999999999TB", None),
        ] {
            assert_eq!(parse_size(text), size, "{text}");
        }
    }

    #[test]
    fn files_of_rules_are_read_or_refused() {
        let dive = "# limits\nrules:\n  # least\n  lowestEfficiency: 0.95\n  highestWastedBytes: \
            '20MB' # much\n  highestUserWastedPercent: disabled\nother:\n  x: 1\n";
        let rules = Rules::from_dive(dive).unwrap();
        assert_eq!(rules.lowest_efficiency, Some(0.95));
        assert_eq!(rules.highest_wasted_bytes, Some(20_000_000));
        assert_eq!(rules.highest_user_wasted_percent, None);
        assert_eq!(Rules::from_dive("").unwrap(), DIVE_DEFAULTS);
        let toml = "[lint]\nx = 1\n[analyze]\nlowest-efficiency = 0.9\nlargest-layer = \"1GB\"\n";
        let rules = Rules::from_toml(toml).unwrap().unwrap();
        assert_eq!(
            (rules.lowest_efficiency, rules.largest_layer),
            (Some(0.9), Some(1_000_000_000))
        );
        assert_eq!(Rules::from_toml("[lint]\n").unwrap(), None);
        for (text, expected) in [
            ("rules:\n  lowestEfficiency: 2\n", "`lowestEfficiency` is `2` and has to be between"),
            ("rules:\n  lowest: 1\n", "there is no rule `lowest`"),
            ("rules\n", "line 1 of the rules"),
        ] {
            let error = Rules::from_dive(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let error = Rules::from_toml("[analyze]\nnothing = 1\n").unwrap_err();
        assert!(error.hint().unwrap().contains("`largest-image`"), "{error:?}");
    }
}
