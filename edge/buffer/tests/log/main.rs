//! The log as its users see it, on good disks and on bad ones.

mod any_bytes;
mod attack;
mod basics;
mod damage;
mod golden;
mod inspect;
mod kill;
mod limits;
mod model;
mod power;
mod sim;
mod view;
