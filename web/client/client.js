// authproxy in the browser: who is signed in, what changes, and tokens.
// Load it as a module; it sets window.authproxy, too. See docs/client.md.
// Elsewhere (rendering on a server) it can be imported, asks nobody, and stays "loading".
const browser = typeof window == "object";
const script = import.meta.url, base = new URL(".", script);
const name = "authproxy:" + base.pathname.slice(0, -1);
const channel = browser ? new BroadcastChannel(name) : {};
const watchers = new Set(), listeners = new Set();
let state = {data: null, status: "loading", isPending: true, error: null};
let options = {}, version = 0, asked = 0, loading, timer, running, token;

const run = (f, ...args) => { try { f(...args); } catch (error) { reportError(error); } };
const emit = event => [...listeners].forEach(tell => tell(event));
const again = ms => { clearTimeout(timer); timer = setTimeout(refresh, Math.min(ms, 2 ** 31 - 1)); };

async function call(path, method, body) {
	const headers = {Accept: "application/json", "Content-Type": "application/json"};
	const answer = await fetch(new URL(path, base), {method, headers, body: JSON.stringify(body)});
	if (answer.status == 401) refresh();
	const value = answer.status == 204 ? null : await answer.json();
	if (!answer.ok) throw Object.assign(new Error(value.message), {code: value.error, status: answer.status});
	// What is over is for the server's clock to say: this machine's may be wrong.
	return {value, now: Date.parse(answer.headers.get("Date")) || Date.now()};
}

const outcome = promise => promise.then(({value}) => ({data: value, error: null}), error => ({data: null, error}));

function set(next) {
	const was = state;
	next = {...was, isPending: false, error: null, ...next};
	if (JSON.stringify(next) == JSON.stringify(was)) return;
	state = next;
	[...watchers].forEach(tell => tell(next, was));
}

// last notes id, and returns that of the session that some tab saw before.
function last(id) {
	try {
		const was = localStorage[name];
		localStorage[name] = id;
		return was;
	} catch {} // storage may be blocked
}

function change(was, is, now) {
	if (was?.session.id != is?.session.id) return is ? "SIGNED_IN" : now < Date.parse(was.expires) ? "SIGNED_OUT" : "SESSION_EXPIRED";
	const differs = f => is && JSON.stringify(f(was)) != JSON.stringify(f(is));
	if (differs(d => [d.user, d.session.data])) return "USER_UPDATED";
	if (differs(({session: s}) => [s.updatedAt, s.access_token])) return "TOKEN_REFRESHED";
}

// take makes the server's answer the state. Other tabs are told only what this
// one was the first to see, and nothing that one of them made it ask (heard).
function take({value, now}, heard) {
	version++;
	const was = state.data, first = state.status == "loading";
	const data = value ? {...value, session: {...value.session, user: value.user}} : null;
	// Each replica mints a token of its own for a session: the one that lasts longest stays.
	const same = ({session: s}) => JSON.stringify([s.id, s.updatedAt, s.user]);
	if (data && was && same(data) == same(was) && data.session.expires_at <= was.session.expires_at) data.session = was.session;
	const id = data?.session.id ?? "", old = was?.session.id ?? "", seen = last(id);
	const event = !first ? change(was, data, now) : (seen ?? id) == id ? null : id ? "SIGNED_IN" : "SIGNED_OUT";
	if (id != old) token = null;
	clearTimeout(timer);
	if (data) again(Math.max(Date.parse(data.expires) - now + 1e3, 5e3));
	set({data, status: data ? "authenticated" : "unauthenticated"});
	if (event && !heard && (id == old || id != seen)) channel.postMessage({type: event, sid: id, v: 1});
	if (first || event) emit(first ? "INITIAL_SESSION" : event);
}

// learn takes an answer unless the state changed after the question: from before
// a sign-out, it would bring the session back.
async function learn(question, heard) {
	const began = version, answer = await question;
	if (began == version) take(answer, heard);
	else refresh();
	return answer;
}

async function load(heard) {
	asked = Date.now();
	try {
		await learn(call("session"), heard);
	} catch (error) { // no answer does not mean that nobody is signed in
		set({error});
		again(3e4);
	}
}

async function refresh(heard) {
	if (!browser) return;
	if (heard) await loading; // that one may have asked too early
	return loading ??= load(heard).finally(() => loading = null);
}

// Another replica may hear of the change 50 ms after the one that made it.
channel.onmessage = ({data}) => data?.v == 1 && setTimeout(refresh, 150 + Math.random() * 350, true);

// The token is kept in memory only, and renewed before its end.
function mint(old) {
	const mine = {};
	mine.text = call("token").then(({value: {token: text, expires_in: life}}) => {
		mine.renewAt = Date.now() + 1e3 * (life - Math.min(60, life / 5));
		if (old && token == mine) emit("TOKEN_REFRESHED");
		return text;
	}).catch(error => {
		if (token == mine) token = null;
		if (error.status != 401) throw error;
		return null;
	});
	return mine;
}

async function leave(promise, redirect = true) {
	const result = await outcome(promise);
	if (result.data && redirect) location.assign(result.data.url);
	return result;
}

const revoke = path => outcome(call("sessions" + path, "DELETE").finally(refresh));

const session = {
	get: () => state,
	get value() { return state; },
	listen(f) {
		const tell = (...args) => run(f, ...args);
		watchers.add(tell);
		return () => watchers.delete(tell);
	},
	subscribe(f) {
		run(f, state);
		return session.listen(f);
	},
};

export const auth = {
	session,
	$session: session,

	async getSession({shape = options.shape} = {}) {
		await refresh();
		return {data: state.data ?? (shape == "nevr" ? null : {session: null, user: null}), error: state.error};
	},

	onAuthStateChange(callback) {
		const tell = event => run(callback, event, state.data?.session ?? null);
		listeners.add(tell);
		if (state.status != "loading") queueMicrotask(() => listeners.has(tell) && tell("INITIAL_SESSION"));
		return {data: {subscription: {unsubscribe: () => listeners.delete(tell)}}};
	},

	signIn: {
		social: ({provider, callbackURL = location.href, redirect}) => leave(call("sign-in/social", "POST", {provider, callbackURL}), redirect),
	},

	signOut: ({callbackURL = "", redirect} = {}) => leave(call("sign-out?rd=" + encodeURIComponent(callbackURL), "POST", {}).then(answer => {
		take({now: 0});
		return answer;
	}), redirect),

	getToken() {
		if (!token || Date.now() >= token.renewAt) token = mint(token);
		return token.text;
	},

	async fetch(input, init) {
		const request = new Request(input, init);
		if (options.allowedOrigins.includes(new URL(request.url).origin)) {
			const bearer = await auth.getToken();
			if (bearer) request.headers.set("Authorization", "Bearer " + bearer);
		}
		return fetch(request);
	},

	update: data => outcome(learn(call("session", "POST", {data}))),
	listSessions: () => outcome(call("sessions")),
	revokeSession: id => revoke("/" + encodeURIComponent(id)),
	revokeOtherSessions: () => revoke("?scope=others"),
	revokeSessions: () => revoke("?scope=all"),

	start(given) {
		options = {refetchOnWindowFocus: true, allowedOrigins: [], ...given};
		if (!browser) return;
		running?.abort();
		running = new AbortController();
		const {signal} = running;
		const every = (seconds, f) => {
			const ticks = seconds > 0 && setInterval(() => navigator.onLine && f(), seconds * 1e3);
			signal.addEventListener("abort", () => clearInterval(ticks));
		};
		every(options.refetchInterval, refresh);
		const look = () => !document.hidden && navigator.onLine && Date.now() - asked >= 5e3 && refresh();
		for (const event of ["focus", "visibilitychange", "pageshow", "online"]) if (options.refetchOnWindowFocus) addEventListener(event, look, {signal});
		// One tab holds the lock; when it is closed, the next one goes on.
		if (options.keepAlive) navigator.locks?.request(name, {signal}, () => new Promise(done => {
			every(options.keepAlive, () => state.data && auth.update());
			signal.addEventListener("abort", done);
		})).catch(() => {}); // start was called again
	},
};
auth.auth = auth;
export default auth;
export const {$session, getSession, onAuthStateChange, signIn, signOut, getToken, update, listSessions, revokeSession, revokeOtherSessions, revokeSessions, start} = auth;
export {session};

start();
if (browser) {
	window.authproxy = auth;
	customElements.get("authproxy-user-button") ?? customElements.define("authproxy-user-button", class extends HTMLElement {
		connectedCallback() { import("./user-button.js").then(({show}) => show(this, auth, base)); }
	});
	refresh();
	// For applications that cannot be changed: what a person saw goes with the session.
	if (script.endsWith("?reload")) onAuthStateChange(event => /OUT|EXPIRED/.test(event) && location.reload());
}
