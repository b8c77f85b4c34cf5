// Types of authproxy's client.js. Save it next to your sources, or point "paths"
// of tsconfig.json at it.

/** The person who is signed in. Mapped claims on the allow-list stand beside these. */
export interface User {
	id: string;
	name: string;
	email: string;
	emailVerified: boolean;
	image: string;
	/** The first application role, or "user". */
	role: string;
	roles: string[];
	groups: string[];
	[claim: string]: unknown;
}

/** One sign-in of one person in one browser. Times are RFC 3339, in UTC. */
export interface Session {
	id: string;
	userId: string;
	createdAt?: string;
	updatedAt?: string;
	lastSeenAt?: string;
	expiresAt: string;
	ipAddress?: string;
	userAgent?: string;
	provider: string;
	amr: string[];
	/** What update() wrote, where sessions are kept in a store. */
	data?: Record<string, unknown>;
	/** The same as user of the answer. */
	user: User;
	/** With jwt.expose: session only. */
	access_token?: string;
	/** When access_token ends, in Unix seconds; with jwt.expose: session only. */
	expires_at?: number;
}

export interface SignedIn {
	session: Session;
	user: User;
	/** When the session ends unless it is extended, RFC 3339. */
	expires: string;
}

export interface SignedOut {
	session: null;
	user: null;
}

/** An answer that refuses has a code and a status; one that did not come has neither. */
export interface AuthError extends Error {
	code?: string;
	status?: number;
}

export type Outcome<T> = {data: T; error: null} | {data: null; error: AuthError};

export interface State {
	/** Null when nobody is signed in, and before that is known. */
	data: SignedIn | null;
	status: "loading" | "authenticated" | "unauthenticated";
	/** True until the first answer or failure. */
	isPending: boolean;
	/** Why the last question had no answer. It does not sign anybody out. */
	error: AuthError | null;
}

/** The contract of nanostores, Svelte stores and useSyncExternalStore. */
export interface SessionStore {
	get(): State;
	readonly value: State;
	/** Calls at once and on each change; returns what ends that. */
	subscribe(callback: (state: State, before?: State) => void): () => void;
	/** Calls on each change; returns what ends that. */
	listen(callback: (state: State, before: State) => void): () => void;
}

export type AuthEvent =
	| "INITIAL_SESSION"
	| "SIGNED_IN"
	| "SIGNED_OUT"
	| "TOKEN_REFRESHED"
	| "USER_UPDATED"
	| "SESSION_EXPIRED";

export interface Device {
	id: string;
	current: boolean;
	createdAt: string;
	lastSeenAt: string;
	expiresAt: string;
	ipAddress: string;
	userAgent: string;
	/** Browser and system, such as "Firefox on Linux". */
	device: string;
	provider: string;
}

export interface StartOptions {
	/** Ask this often, in seconds; 0 means never (the default). It does not count as activity. */
	refetchInterval?: number;
	/** Ask when a person comes back to the page, at most every 5 s; true by default. */
	refetchOnWindowFocus?: boolean;
	/** Extend the session this often, in seconds, from one tab, for as long as one is open; 0 means never (the default). Needs https or localhost. */
	keepAlive?: number;
	/** The origins that fetch sends the token to, such as "https://api.example.com"; none by default. */
	allowedOrigins?: string[];
	/** "nevr" makes data of getSession null when nobody is signed in. */
	shape?: "nevr";
}

export interface Auth {
	readonly auth: Auth;
	readonly session: SessionStore;
	readonly $session: SessionStore;

	/** Asks the server. On an error, data is what was known before. */
	getSession(options: {shape: "nevr"}): Promise<{data: SignedIn | null; error: AuthError | null}>;
	getSession(options?: {shape?: undefined}): Promise<{data: SignedIn | SignedOut; error: AuthError | null}>;

	/** Calls with INITIAL_SESSION as soon as it is known who is signed in, then on each change in any tab. */
	onAuthStateChange(callback: (event: AuthEvent, session: Session | null) => void): {
		data: {subscription: {unsubscribe(): void}};
	};

	readonly signIn: {
		/** Goes to the provider, and comes back to callbackURL (this page by default). redirect: false only returns where to go. */
		social(options: {provider: string; callbackURL?: string; redirect?: boolean}): Promise<Outcome<{url: string; redirect: boolean}>>;
	};

	/** Ends the session and goes to callbackURL, by way of the provider's sign-out page if it has one. redirect: false only returns where to go. */
	signOut(options?: {callbackURL?: string; redirect?: boolean}): Promise<Outcome<{success: boolean; url: string}>>;

	/** A token for other services, null when nobody is signed in. It is kept in memory only, and renewed before its end. Rejects with an AuthError. */
	getToken(): Promise<string | null>;

	/** fetch, with the token for the origins in allowedOrigins and no others. */
	fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;

	/** Extends the session; with data (a JSON object up to 4 KB, where sessions are kept in a store) replaces what is kept in it. */
	update(data?: Record<string, unknown>): Promise<Outcome<Omit<SignedIn, "session"> & {session: Omit<Session, "user">}>>;

	listSessions(): Promise<Outcome<Device[]>>;
	revokeSession(id: string): Promise<Outcome<null>>;
	revokeOtherSessions(): Promise<Outcome<{revoked: number}>>;
	/** Ends all of them, this one too. */
	revokeSessions(): Promise<Outcome<{revoked: number}>>;

	/** Replaces the options. */
	start(options?: StartOptions): void;
}

export const auth: Auth;
export default auth;
export const session: SessionStore;
export const $session: SessionStore;
export const getSession: Auth["getSession"];
export const onAuthStateChange: Auth["onAuthStateChange"];
export const signIn: Auth["signIn"];
export const signOut: Auth["signOut"];
export const getToken: Auth["getToken"];
export const update: Auth["update"];
export const listSessions: Auth["listSessions"];
export const revokeSession: Auth["revokeSession"];
export const revokeOtherSessions: Auth["revokeOtherSessions"];
export const revokeSessions: Auth["revokeSessions"];
export const start: Auth["start"];

declare global {
	interface Window {
		authproxy: Auth;
	}
	interface HTMLElementTagNameMap {
		"authproxy-user-button": HTMLElement;
	}
}
