//! How domain values stand in columns.

use std::str::FromStr;

use conex_layer::{Flavor, Form, Ownership};
use conex_oci::{ChainId, DiffId, Digest};
use rusqlite::Row;
use rusqlite::types::Type;

use crate::error::Error;

/// Reads a column of text as a value; a text that is none says that the row is damaged.
pub(crate) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

/// As [`parsed`], for a column that may be null.
pub(crate) fn parsed_optional<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => parsed(row, column).map(Some),
    }
}

/// Reads a column as a digest.
pub(crate) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    parsed(row, column)
}

/// Reads a column as a diff ID.
pub(crate) fn diff_id(row: &Row<'_>, column: usize) -> rusqlite::Result<DiffId> {
    digest(row, column).map(DiffId)
}

/// Reads a column as a chain ID.
pub(crate) fn chain_id(row: &Row<'_>, column: usize) -> rusqlite::Result<ChainId> {
    digest(row, column).map(ChainId)
}

/// How the form of a snapshot stands in a column.
pub(crate) fn form_text(form: Form) -> &'static str {
    match (form.flavor, form.ownership) {
        (Flavor::Trusted, Ownership::Real) => "trusted,real",
        (Flavor::Trusted, Ownership::Recorded) => "trusted,recorded",
        (Flavor::User, Ownership::Real) => "user,real",
        (Flavor::User, Ownership::Recorded) => "user,recorded",
    }
}

fn parse_form(text: &str) -> Result<Form, Error> {
    let (flavor, ownership) = match text {
        "trusted,real" => (Flavor::Trusted, Ownership::Real),
        "trusted,recorded" => (Flavor::Trusted, Ownership::Recorded),
        "user,real" => (Flavor::User, Ownership::Real),
        "user,recorded" => (Flavor::User, Ownership::Recorded),
        _ => return Err(Error::damaged_row("snapshot form", text)),
    };
    Ok(Form { flavor, ownership })
}

/// Reads a column as the form of a snapshot.
pub(crate) fn form(row: &Row<'_>, column: usize) -> rusqlite::Result<Form> {
    parse_form(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

/// The same text in JSON.
pub(crate) mod form_serde {
    use conex_layer::Form;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(form: &Form, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(super::form_text(*form))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Form, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_form(&text).map_err(serde::de::Error::custom)
    }
}

/// Reads a column as a count or a size. SQLite has no unsigned numbers.
pub(crate) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// Writes a count or a size.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads a column of JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

/// Writes JSON. Maps of strings always serialise.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("maps and lists of strings always serialise")
}

/// Reads a text as a value, as [`parsed`] does with a whole column.
pub(crate) fn value<T>(column: usize, text: &str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}
