//! What the program promises beyond the rows: each test is one sentence of its documentation.

mod backends;
mod clients;
mod commands;
mod explain;
mod health;
mod lines;
mod names;
mod proxy;
mod reload;
mod sticky;
mod words;
