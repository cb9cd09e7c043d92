//! Commands on the cloud's side: they reach the edges' topic once and in order, people and NATS clients give them, and all of it can be audited.

mod audit;
mod copier;
mod front;
mod sending;
mod setup;
