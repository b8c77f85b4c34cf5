# The image holds the binary, the certificates that providers are checked
# against, and one user. There is no shell in it and nothing to update.
#
#   docker build --build-arg VERSION=1.0.0 --tag authproxy:1.0.0 .

FROM golang:1.26 AS build
WORKDIR /src
COPY . .
ARG VERSION=dev
# Absent means the defaults of the go command; a build without a network names a
# file:// proxy.
ARG GOPROXY
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /authproxy ./cmd/authproxy
RUN echo 'authproxy:x:65532:65532:authproxy:/nonexistent:/sbin/nologin' > /passwd

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="authproxy" \
      org.opencontainers.image.description="Puts sign-in in front of applications that know nothing about sign-in" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /passwd /etc/passwd
COPY --from=build /authproxy /authproxy
# By number: kubelet cannot tell from a name that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 4180 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/authproxy", "healthcheck"]
ENTRYPOINT ["/authproxy"]
