// Uses all of client.js as an application does, for the compiler to check the
// declarations by. It is never run.
import auth, {
  $session, auth as named, getSession, getToken, listSessions, onAuthStateChange, revokeOtherSessions, revokeSession,
  revokeSessions, session, signIn, signOut, start, update,
} from '/auth/client.js';
import type { Auth, AuthError, AuthEvent, Device, Outcome, Session, SessionStore, SignedIn, StartOptions, State, User } from '/auth/client.js';

export async function whoIsThere(): Promise<string> {
  const { data: { user, session }, error } = await getSession();
  // @ts-expect-error: signed out there is no user
  user.id;
  const nevr = await getSession({ shape: 'nevr' });
  // @ts-expect-error: nor are there data in this shape
  nevr.data.user;
  const expires: string = nevr.data?.expires ?? '';
  const failure: AuthError | null = error;
  const person: User | undefined = session?.user;
  return [user?.email, person?.roles.join(), person?.department, failure?.code, failure?.status, expires].join();
}

export function watch(store: SessionStore): () => void {
  const { data, status, isPending, error }: State = store.get();
  if (status === 'authenticated' && !isPending && !error) console.log((data as SignedIn).session.expires_at?.toFixed());
  const end = store.listen((state, before) => console.log(before.status, state.status));
  const stop = store.subscribe((state, before) => console.log(before?.status, state.data?.session.data?.theme));
  // @ts-expect-error: only what signs in or out changes it
  store.value = store.get();
  return () => { end(); stop(); };
}

export async function everything(): Promise<void> {
  const { data: { subscription } } = onAuthStateChange((event: AuthEvent, now: Session | null) => console.log(event, now?.user.name));
  // @ts-expect-error: there is no such event
  onAuthStateChange((event) => event === 'SIGNED_UP');
  subscription.unsubscribe();
  watch(session);
  watch($session);

  const begun: Outcome<{ url: string; redirect: boolean }> = await signIn.social({ provider: 'google', callbackURL: '/', redirect: false });
  if (begun.error) throw begun.error;
  location.assign(begun.data.url); // no longer null
  // @ts-expect-error: at whom?
  signIn.social({});
  const { data: left } = await signOut({ callbackURL: '/', redirect: false });
  console.log(left?.success, left?.url, await signOut());

  const token: string | null = await getToken();
  const response: Response = await auth.fetch(new URL('https://api.example.com/'), { headers: { 'X-Token': token ?? '' } });
  const extended = await update({ theme: 'dark' });
  console.log(response.status, extended.data?.session.id, (await update()).error?.message);

  const devices: Device[] = (await listSessions()).data ?? [];
  for (const { id, current, device } of devices) if (!current) console.log(device, (await revokeSession(id)).error);
  console.log((await revokeOtherSessions()).data?.revoked, (await revokeSessions()).data?.revoked);

  const options: StartOptions = { refetchInterval: 60, refetchOnWindowFocus: false, keepAlive: 60, allowedOrigins: ['https://api.example.com'], shape: 'nevr' };
  start(options);
  start();
  const all: Auth[] = [auth, named, auth.auth, window.authproxy];
  console.log(all.length, document.createElement('authproxy-user-button').shadowRoot, document.querySelector('authproxy-user-button')?.isConnected);
}
