package web

// IsReturnURL lets tests and the fuzzer ask without a whole sign-in.
func (s *Server) IsReturnURL(target string) bool { return s.isReturnURL(target) }

// RefreshError lets a test ask about errors that no provider of ours makes.
func RefreshError(err error) error { return refreshError(err) }
