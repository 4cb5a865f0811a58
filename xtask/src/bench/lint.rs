//! The linter beside hadolint: a thousand Dockerfiles of real size in one call.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::command;
use super::measure::Contestant;
use super::peers::Lab;
use crate::shell::{Result, has_program};

/// How many files.
const COUNT: usize = 1_000;

/// Makes the files and names who looks at them.
pub(crate) fn thousand(lab: &Lab) -> Result<Vec<Contestant>> {
    let folder = lab.dir.join("lint-1000");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let mut names = Vec::new();
    for number in 0..COUNT {
        let path = folder.join(format!("{number:04}.Dockerfile"));
        fs::write(&path, dockerfile(number)).map_err(|error| error.to_string())?;
        names.push(path);
    }
    let mut words = lab.tool("conex");
    words.extend(["lint", "--no-fail", "-f", "json"].map(str::to_owned));
    words.push(folder.display().to_string());
    let mut all = vec![Contestant::new("conex", move || command(&words))];
    let named = std::env::var_os("CONEX_HADOLINT").map(PathBuf::from);
    let hadolint = named.or_else(|| has_program("hadolint").then(|| PathBuf::from("hadolint")));
    let Some(hadolint) = hadolint else {
        all.push(Contestant::absent("hadolint", "not installed (`CONEX_HADOLINT` names it)"));
        return Ok(all);
    };
    all.push(Contestant::new("hadolint", move || {
        let mut run = command([hadolint.as_os_str()]);
        run.args(["--no-fail", "-f", "json"]).args(&names);
        run
    }));
    Ok(all)
}

/// A file of some forty lines, as services have: two stages, packages, a few commands, each file a
/// little different.
fn dockerfile(number: usize) -> String {
    let mut text = format!(
        "# syntax=docker/dockerfile:1\nARG VERSION={number}\nFROM debian:12 AS build\n\
         ENV APP=app{number} LANG=C.UTF-8\nWORKDIR /src\n\
         RUN apt-get update && apt-get install -y \\\n"
    );
    for package in 0..4 + number % 8 {
        let _ = writeln!(text, "    package-{package} \\"); // a String takes all
    }
    let _ = write!(
        text,
        "    && rm -rf /var/lib/apt/lists/*\nCOPY requirements.txt package.json ./\n\
         RUN pip install -r requirements.txt\nRUN npm install\nCOPY . .\n\
         RUN set -eux; \\\n    for part in one two three; do \\\n        make -C \"$part\" \
         VERSION=$VERSION; \\\n    done; \\\n    if [ -f \"dist/$APP\" ]; then \\\n        \
         cp dist/$APP /usr/local/bin/; \\\n    else \\\n        echo missing && exit 1; \\\n    fi\n\
         RUN curl -fsSL https://example.test/{number}/tool.tar.gz | tar -xz -C /opt\n\
         RUN cd /opt/tool && ./configure --prefix=/usr && make -j$(nproc) && make install\n\
         FROM debian:12\nLABEL org.opencontainers.image.title=\"app {number}\"\n\
         RUN groupadd -r app && useradd -r -g app app\nWORKDIR /app\n\
         COPY --from=build /usr/local/bin/app{number} /app/\nEXPOSE 8080\nUSER app\n\
         HEALTHCHECK --interval=30s CMD curl -f http://localhost:8080/ || exit 1\n\
         ENTRYPOINT [\"/app/app{number}\"]\nCMD [\"--serve\"]\n"
    ); // a String takes all
    text
}
