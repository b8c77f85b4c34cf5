// What <authproxy-user-button> shows; client.js loads it for the first one.

const make = (tag, properties, ...children) => {
	const element = Object.assign(document.createElement(tag), properties);
	element.append(...children);
	return element;
};

// A style sheet that a script makes needs no exception in the page's
// Content-Security-Policy. System colors follow the page's color-scheme.
const style = new CSSStyleSheet();
style.replaceSync(`
	:host { display: inline-block; position: relative; font: 1rem/1.5 system-ui, sans-serif; text-align: start }
	summary { display: grid; place-items: center; box-sizing: border-box; width: 2.75rem; height: 2.75rem;
		border: 1px solid; border-radius: 50%; background: ButtonFace; color: ButtonText;
		font-weight: 600; list-style: none; cursor: pointer; user-select: none }
	summary::-webkit-details-marker { display: none }
	.menu { position: absolute; inset-inline-end: 0; z-index: 9999; display: grid; gap: .5rem; box-sizing: border-box;
		width: max-content; max-width: min(20rem, 80vw); margin-top: .5rem; padding: 1rem;
		border: 1px solid; border-radius: .75rem; background: Canvas; color: CanvasText; overflow-wrap: anywhere }
	a, button { padding: .5rem 1rem; border: 1px solid; border-radius: .5rem; background: ButtonFace; color: ButtonText;
		font: inherit; text-align: center; text-decoration: none; cursor: pointer }
	:host > a { display: block }
	:focus-visible { outline: 3px solid; outline-offset: 2px }
	[role=alert]:empty { display: none }
`);

// show keeps what element shows up to date for as long as it is in a page.
export function show(element, auth, base) {
	if (!element.isConnected || element.showing) return;
	element.showing = true;
	const root = element.shadowRoot ?? element.attachShadow({mode: "open"});
	root.adoptedStyleSheets = [style];
	let shown;
	const draw = ({data, status}) => {
		const next = JSON.stringify([status, data?.user]);
		if (next == shown) return; // what is open stays open
		shown = next;
		root.replaceChildren(...status == "loading" ? [] : [data ? menu(element, data.user, auth, base) : link(base)]);
	};
	const stop = auth.session.listen(state => {
		if (element.isConnected) return draw(state);
		element.showing = false; // it comes back here when it is put into a page again
		stop();
	});
	draw(auth.session.get());
}

function link(base) {
	const signIn = () => new URL("sign-in?rd=" + encodeURIComponent(location.href), base).href;
	return make("a", {href: signIn(), onclick() { this.href = signIn(); }}, "Sign in"); // a page may have moved on by itself
}

function menu(element, {name, email}, auth, base) {
	const who = name || email || "Signed in", alert = make("span", {role: "alert"});
	const signOut = async () => {
		alert.textContent = "";
		const {error} = await auth.signOut({callbackURL: element.getAttribute("after-sign-out-url") ?? undefined});
		if (error) alert.textContent = "That did not work. Please try again.";
	};
	const summary = make("summary", {ariaLabel: "Account of " + who, title: who}, [...who][0].toUpperCase());
	const details = make("details", {}, summary, make("div", {className: "menu", tabIndex: -1},
		make("strong", {}, who), email && email != who ? make("span", {}, email) : "",
		make("a", {href: new URL("account", base).href}, "Account"),
		make("button", {type: "button", onclick: signOut}, "Sign out"), alert));
	details.onkeydown = ({key}) => {
		if (key != "Escape") return;
		details.open = false;
		summary.focus();
	};
	details.onfocusout = ({relatedTarget}) => {
		if (!details.contains(relatedTarget)) details.open = false;
	};
	return details;
}
