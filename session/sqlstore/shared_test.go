package sqlstore

import "authproxy/session/storetest/servers"

// Shared is PostgreSQL for the tests that leave the server as it is.
var Shared servers.SharedPostgres
