package web

// IsReturnURL lets tests and the fuzzer ask without a whole sign-in.
func (s *Server) IsReturnURL(target string) bool { return s.isReturnURL(target) }
