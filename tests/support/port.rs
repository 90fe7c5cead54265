use std::net::TcpListener;

/// A TCP port of the loopback interface on which nothing listens at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
