//! The store seen from outside: behaviour, a model, killed processes, many processes, full disks.

mod behaviour;
mod crash;
mod full_disk;
mod images;
mod many;
mod model;
mod power;
mod repair;
mod support;
